"""Write the demonstration data as a user would bring their own rows: two-term arithmetic, and open questions.

Sums have one right answer. An open question about an everyday thing can be answered briefly or at length; pairs and
marks prefer the brief answer.

reads   nothing
params  demo
writes  data/raw/{demo,demo_open,demo_pairs,demo_marks,demo_prompts}.jsonl
"""

import random
from itertools import islice
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from stages.demo import open_questions
from tunesmith.core import layout, ready_rows
from tunesmith.core.console import run
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import Section, load, resolved

FILES = {
    "answers": layout.RAW / "demo.jsonl",
    "open": layout.RAW / "demo_open.jsonl",
    "pairs": layout.RAW / "demo_pairs.jsonl",
    "marks": layout.RAW / "demo_marks.jsonl",
    "prompts": layout.RAW / "demo_prompts.jsonl",
}
DIGITS = (range(1, 10), range(10, 100))
"""Terms of one digit, and of two."""
DISTINCT = sum(2 * len(terms) ** 2 for terms in DIGITS)
"""The number of distinct sums."""
GOOD = 0.5
"""Share of the marked answers that are good."""
BRIEF = 0.1
"""Share of the answers to imitate that are brief; without any, no answer that a policy samples would earn a reward."""


class Demo(Section):
    """The sizes of the five files, in rows, and the seed of all of them."""

    rows: PositiveInt = 640
    """Sums with their answers."""
    open: PositiveInt = 100
    """Open questions with answers as an assistant gives them, most of them long-winded."""
    pairs: PositiveInt = 200
    """Open questions with a brief and a long-winded answer."""
    marks: PositiveInt = 220
    """Open questions with one answer, marked good if it is brief."""
    prompts: PositiveInt = 300
    """Open questions to be answered briefly."""
    seed: NonNegativeInt = 20


def main() -> str:
    rows = generate(load(Demo, "demo", path=resolved("generate_demo")))
    for kind, path in FILES.items():
        ready_rows.write_jsonl(path, rows[kind])
    return "; ".join(f"{path}: {len(rows[kind])} rows" for kind, path in FILES.items())


def generate(demo: Demo) -> dict[str, list[dict[str, Any]]]:
    """Rows of each of FILES; no prompt is in two of them, and the same seed gives the same rows.

    Rows of open questions name their ``thing``, so that no thing is in two splits. Raises ParamsError where there are
    fewer distinct questions than rows.
    """
    questions = iter(_open_questions(demo.open + demo.pairs + demo.marks + demo.prompts, demo.seed))
    draw = random.Random(demo.seed)
    bounds = {"min_words": open_questions.MIN_WORDS, "max_words": open_questions.MAX_WORDS}
    return {
        "answers": [{"question": question, "answer": answer} for question, answer in _sums(demo.rows, demo.seed)],
        "open": [
            {"thing": each.thing, "question": each.prompt, "answer": each.brief if brief else each.long_winded}
            for each in islice(questions, demo.open)
            for brief in (draw.random() < BRIEF,)
        ],
        "pairs": [
            {"thing": each.thing, "prompt": each.prompt, "chosen": each.brief, "rejected": each.long_winded}
            for each in islice(questions, demo.pairs)
        ],
        "marks": [
            {"thing": each.thing, "prompt": each.prompt}
            | ({"completion": each.brief, "label": True} if good else {"completion": each.long_winded, "label": False})
            for each in islice(questions, demo.marks)
            for good in (draw.random() < GOOD,)
        ],
        "prompts": [
            {"thing": each.thing, "prompt": each.prompt, "reference": each.brief, "verifier": "length"} | bounds
            for each in questions
        ],
    }


def _sums(count: int, seed: int) -> list[tuple[str, str]]:
    """Distinct questions, of two terms of one digit or of two digits, with their answers."""
    if count > DISTINCT:
        raise ParamsError(
            f"params.yaml: demo: {count} rows are more than the {DISTINCT} distinct sums",
            fix=f"lower rows to at most {DISTINCT}",
        )
    draw, answers = random.Random(seed), dict[str, str]()
    while len(answers) < count:
        terms = draw.choice(DIGITS)
        first, second, sign = draw.choice(terms), draw.choice(terms), draw.choice("+-")
        question = f"State the final answer to the following arithmetic problem: {first} {sign} {second} ="
        answers[question] = str(first + second if sign == "+" else first - second)
    return list(answers.items())


def _open_questions(count: int, seed: int) -> list[open_questions.OpenQuestion]:
    """Distinct open questions."""
    if count > open_questions.COUNT:
        raise ParamsError(
            f"params.yaml: demo: {count} rows are more than the {open_questions.COUNT} distinct open questions",
            fix=f"lower open, pairs, marks and prompts to at most {open_questions.COUNT} together",
        )
    return list(islice(open_questions.ask(seed), count))


if __name__ == "__main__":
    run(main)
