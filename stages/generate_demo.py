"""Write the demonstration data, two-term arithmetic, as a user would bring their own rows.

reads   nothing
params  demo
writes  data/raw/{demo,demo_pairs,demo_prompts,demo_marks}.jsonl
"""

import random
from itertools import islice
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from tunesmith.core import layout, ready_rows
from tunesmith.core.console import run
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import Section, load, resolved

FILES = {
    "answers": layout.RAW / "demo.jsonl",
    "pairs": layout.RAW / "demo_pairs.jsonl",
    "prompts": layout.RAW / "demo_prompts.jsonl",
    "marks": layout.RAW / "demo_marks.jsonl",
}
DIGITS = (range(1, 10), range(10, 100))
"""Terms of one digit, and of two."""
DISTINCT = sum(2 * len(terms) ** 2 for terms in DIGITS)
"""The number of distinct questions."""
GUESSED = 0.5
"""Share of the wrong answers that are far off."""

RIGHT = 0.5
"""Share of the marked answers that are right."""


class Demo(Section):
    """The sizes of the four files, in rows, and the seed of all of them."""

    rows: PositiveInt = 640
    pairs: PositiveInt = 480
    prompts: PositiveInt = 480
    marks: PositiveInt = 480
    seed: NonNegativeInt = 20


def main() -> str:
    rows = generate(load(Demo, "demo", path=resolved("generate_demo")))
    for kind, path in FILES.items():
        ready_rows.write_jsonl(path, rows[kind])
    return "; ".join(f"{path}: {len(rows[kind])} rows" for kind, path in FILES.items())


def generate(demo: Demo) -> dict[str, list[dict[str, Any]]]:
    """Rows of "answers", "pairs", "prompts" and "marks"; the same seed gives the same rows.

    Raises ParamsError where there are fewer distinct sums than rows.
    """
    sums = iter(_sums(demo.rows + demo.pairs + demo.prompts + demo.marks, demo.seed))
    noise = random.Random(demo.seed)
    return {
        "answers": [{"question": question, "answer": answer} for question, answer in islice(sums, demo.rows)],
        "pairs": [
            {"prompt": question, "chosen": answer, "rejected": mistaken(answer, noise)}
            for question, answer in islice(sums, demo.pairs)
        ],
        "prompts": [
            {"prompt": question, "reference": answer, "verifier": "number"}
            for question, answer in islice(sums, demo.prompts)
        ],
        "marks": [
            {"prompt": question, "completion": answer if good else mistaken(answer, noise), "label": good}
            for question, answer in sums
            for good in (noise.random() < RIGHT,)
        ],
    }


def mistaken(answer: str, noise: random.Random) -> str:
    """A wrong answer: far off, or a slip (a carry forgotten or doubled, off by one, a lost sign, swapped digits)."""
    value = int(answer)
    if noise.random() < GUESSED:
        return str(value + noise.choice((-1, 1)) * noise.randint(21, 99))
    slips = {value + slip for slip in (-20, -10, -2, -1, 1, 2, 10, 20)} | {-value}
    digits = str(abs(value))
    if len(digits) == 2:
        slips.add(int(digits[::-1]) * (1 if value > 0 else -1))
    return str(noise.choice(sorted(slips - {value})))


def _sums(count: int, seed: int) -> list[tuple[str, str]]:
    """Distinct questions, of two terms of one digit or of two digits, with their answers."""
    if count > DISTINCT:
        raise ParamsError(
            f"params.yaml: demo: {count} rows are more than the {DISTINCT} distinct sums",
            fix=f"lower rows, pairs, prompts and marks to at most {DISTINCT} together",
        )
    draw, answers = random.Random(seed), dict[str, str]()
    while len(answers) < count:
        terms = draw.choice(DIGITS)
        first, second, sign = draw.choice(terms), draw.choice(terms), draw.choice("+-")
        question = f"State the final answer to the following arithmetic problem: {first} {sign} {second} ="
        answers[question] = str(first + second if sign == "+" else first - second)
    return list(answers.items())


if __name__ == "__main__":
    run(main)
