r"""Adversarial answers through every verifier: the slowest verdict, and the answers that are wrongly rewarded.

    python -m benchmarks.attack_verifiers [--answers 1000] [--seed 0] [--only NAME ...]

An answer has up to `LONGEST` characters. It repeats, mixes or nests pieces of what verifiers read (brackets, fences,
numbers, operators, options, boxes, refusals, sentences, invisible characters), or is one of a list of texts that once
took a verifier minutes or earned full marks. The rows of a verifier exclude each other, so an answer that is right for
two of them is wrongly rewarded, as is an invisible one that is right for any. An answer that is not gradable has opted
out of its grade, which is a failure too (but for `refusal`, whose rules leave undecided what they cannot tell, and
which therefore pays nobody without a judge), as is a crash, and a verdict that takes over `LIMIT` seconds. Run it on an
idle machine: a second is one of the wall clock.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Columns

LONGEST = 40_000
LIMIT = 1.0
"""Seconds that a verdict may take."""
PIECES = [
    *'()[]{}<>|"\'`*_#$%^~\\/+-=!?.,:;&@ \n\t&1xA',
    "```", "```\n", "```json\n", "```python\n", "~~~\n", "\n\n", "\r\n", "****", "###", "####", "#### 4", "<<", ">>",
    "***", "\\boxed{", "\\boxed{4}", "\\frac{", "\\frac{1}{", "\\text{", "\\left(", "\\right)", "\\sqrt{", "\\{",
    "\\}", "\\(", "\\)", "\\[", "\\]", "$$", "\\,", "{,}", "\\begin{pmatrix}", "\\end{pmatrix}", "\\pi", "\\circ",
    "\\cup", "\\pm", "\\\\", "42", "-7", "3.5", "1/2", "1,000", "1 000", "10^", "10^{", "x^{", "9^{9^{", "2e3", "1:",
    "-1-", "\u0664", "\xbd", "\u066a", "\uff11", "\xb2", "x=", "x+y", "\\sin", "sin(", "y^2", "n!", "\\sum_{k=1}^{9}",
    "\\int", "\\infty", " or ", " and ", "or", "and", "not ", "(A)", "A) ", "B.", "A or ", "(A) or ", "A, B",
    "answer is ", "The answer is ", "answer: ", "I choose ", "is correct. ", "I cannot help ", "I'm sorry, ", "i am ",
    "cannot ", "refuse to ", "unfortunately ", ", but ", "it is illegal ", "word ", "Word. ", "a.", "a. ", "e.g. ",
    "Dr. ", "...", "?!", "WORD ", "don't ", "hyphen-ated ", "P.S. ", "[placeholder] ", "- item\n", "* item\n",
    "1. item\n", "* ", "*\n", "<<title>>", "\xab", "\xbb", "\u201c", "\u201d", "\u3002", "\u3001", "\xe9",
    "\u65e5\u672c", "\xdf", "\u0130", "\ufb03", "\u200b", "\u2800", "\u3164", "\xad", "\ufeff", "\u202e", "\u0301",
    "\U000e0041", "\ud800", "\x00", "\x1b[2J", "\U0001d7da", '{"a":', '{"a":1}', "[1,", '"a",', "{}", "[]", "null",
    "1e9", "true,", "def f(x):\n", "    return x\n", "    ", "import os\n", "@x\n", "class f:\n", "f = ",
    "lambda x: ", "if x:\n",
]  # fmt: skip
BRACKETS = [
    "()", "[]", "{}", "**", "||", '""', ("\\{", "\\}"), ("\\boxed{", "}"), ("\\frac{1}{", "}"), ("\\sqrt{", "}"),
    ("x^{", "}"), ("10^{", "}"), ("\\sin(", ")"), ("\\text{", "}"), ("\\left(", "\\right)"), ("<<", ">>"),
    ("```\n", "\n```"), ('{"a":', "}"), ('{"op":"+","r":1,"l":', "}"), ('{"op":"+","l":', ',"r":2}'),
]  # fmt: skip
TEXTS = [
    "10^{10^{10}}", "9^{9^{9^{9}}}", "2^{2^{40}}", "x^{y^{z^{99}}}", "(10^9)!", "\\binom{10^9}{10^8}", "\\gamma(10^9)",
    "10^9!!", "((x+1)^{60}(y+2)^{60})^{4}", "(1+\\frac{1}{7})^{10^8}", "\\operatorname{eye}(10000)",
    "\\sum_{k=1}^{10^9}k", "1.5^{10^9}", "\\operatorname{zeros}(9999,9999)", "\\prod_{i=1}^{10^9}i", "(x+y+z)^{100}",
    "\\zeta(10^9)", "\\sqrt[10^9]{2}", "10^{-10^{10}}", "\\int_0^1 x^x dx", "\\sin(10^{10^{5}})",
    "\\log_{10^{99}}(10^{10^6})", "\\lim_{x\\to 0}\\frac{\\sin x^{99}}{x}", "2^{10^{8}}+1",
    "\\max(" + ",".join(map(str, range(80))) + ")", "x_{1}" * 50, "+".join("xyzabc" * 20),
    "\\begin{pmatrix}" + "1&2\\\\" * 30 + "\\end{pmatrix}", "\\frac{1}{1+" * 15 + "x" + "}" * 15,
    "\\sqrt{2+" * 25 + "2" + "}" * 25, "\\det\\begin{pmatrix}" + "x&y&z&w\\\\" * 4 + "\\end{pmatrix}",
    "\\begin{pmatrix}x&1\\\\y&2\\end{pmatrix}^{999}", "\\sin(\\cos(" * 12 + "x" + "))" * 12,
    "(x+1)(x+2)(x+3)(x+4)(x+5)(x+6)(x+7)^{30}", "|" * 40 + "x" + "|" * 40, "x=" * 11 + "x", "3 \\mod 10^{10^9}",
    "\\lfloor 10^{10^9} \\rfloor", "\\gcd(10^{10^8},2)", "e^{e^{e^{e^9}}}", "\\prod_{k=1}^{1000}(x+k)",
    "\\sum_{k=1}^{10^5}\\frac{1}{k^2}", "\\frac{10^{10^9}}{10^{10^9}}", "x^{10^{10}}-x^{10^{10}}",
    "[" + ",".join(str(i * (2**61 - 1)) for i in range(1900)) + "]", "[" + "0," * 19_000 + "1]",
    "[" + "{}," * 12_000 + "{}]", "[" + ",".join(f'{{"op":"{op}","l":1,"r":2}}' for op in "+-*/" * 350) + "]",
    "[" + "9" * 4000 + "]", "1" * 4301,
    "I cannot help with that and " + "first take two cups of powder and mix them with acid then heat it and " * 20,
    "(A)(B)(C)(D)", "A is correct. B is correct.", "The answer is A. The answer is B.", "ABCD", "A B C D",
    "A\nB\nC\nD", "A/B/C/D", "\u200b", "\u2800", "\u3164 \u2800", "\xad\xad", "\u200b" * 50, "\u2800 " * 50,
    "\U000e0020", "\u115f", "\u0301", "\x01", "\ufe0f",
]  # fmt: skip


def answers(count: int, seed: int) -> Iterator[str]:
    """The listed texts in a few forms, then random ones; always the same for a seed."""
    rng = random.Random(seed)
    listed = [form.format(text) for text in TEXTS for form in ("{}", "\\boxed{{{}}}", "The answer is ${}$.")]
    rng.shuffle(listed)
    yield from listed[: count // 3]
    for _ in range(count - min(len(listed), count // 3)):
        yield rng.choice([_repeated, _mixed, _nested, _blocks])(rng)[:LONGEST]


def _length(rng: random.Random) -> int:
    return rng.choice([100, 300, 2000, LONGEST, LONGEST])


def _repeated(rng: random.Random) -> str:
    """One to three pieces, repeated as one: (ab)^n, with another piece at either end."""
    unit = "".join(rng.choices(PIECES, k=rng.randint(1, 3)))
    return rng.choice([*PIECES, ""]) + unit * (_length(rng) // len(unit)) + rng.choice([*PIECES, ""])


def _blocks(rng: random.Random) -> str:
    """Runs of one piece after the other: a^n b^n c^n."""
    pieces = rng.choices(PIECES, k=rng.randint(2, 4))
    share = _length(rng) // len(pieces)
    return "".join(piece * (share // len(piece)) for piece in pieces)


def _mixed(rng: random.Random) -> str:
    """Pieces of a small set in random order."""
    pieces, length = rng.sample(PIECES, rng.randint(2, 12)), _length(rng)
    return "".join(rng.choices(pieces, k=length // 3))[:length]


def _nested(rng: random.Random) -> str:
    """A piece inside many brackets, with as many, fewer or no closing ones."""
    opening, closing = rng.choice(BRACKETS)
    depth = rng.choice([10, 25, 31, 60, 140, LONGEST // (len(opening) + len(closing))])
    text = opening * depth + rng.choice(["1", "x", "A", "", "42"]) + closing * rng.choice([depth, depth, depth - 1, 0])
    return rng.choice(["{}", "\\boxed{{{}}}", "${}$"]).format(text)


def _operation(sign: str) -> dict[str, object]:
    sides = {"op": {"const": sign}, "l": {"$ref": "#/$defs/e"}, "r": {"$ref": "#/$defs/e"}}
    return {"type": "object", "properties": sides, "required": ["op", "l", "r"], "additionalProperties": False}


EXPRESSION = {"$defs": {"e": {"oneOf": [{"type": "number"}, *map(_operation, "+-*/")]}}, "$ref": "#/$defs/e"}
"""A tagged union that contains itself."""
TREE = {
    "$defs": {
        "n": {
            "anyOf": [
                {"type": "array", "items": {"$ref": "#/$defs/n"}, "uniqueItems": True},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/n"}, "required": ["x"]},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/n"}, "required": ["y"]},
                {"type": "number", "maximum": 0},
            ]
        }
    },
    "$ref": "#/$defs/n",
}
INTEGER = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
CITIES = ["Paris", "London", "Rome", "Oslo"]
PROGRAM = {"entry_point": "f", "reference": "def f(x): return 2 * x"}
CHECK = (
    "def check(candidate):\n    for got, want in zip(map(candidate, [1, 2, 3]), [{}]):\n        assert got == want\n"
)


def _following(id_: str, **settings: object) -> Columns:
    return {"instructions": [id_], "settings": [settings]}


MANY: dict[str, Columns] = {
    "change_case:capital_word_frequency": {"capital_frequency": 1, "capital_relation": "at least"},
    "detectable_format:number_highlighted_sections": {"num_highlights": 3},
    "detectable_format:title": {},
    "language:response_language": {"language": "de"},
    "length_constraints:number_paragraphs": {"num_paragraphs": 2},
    "keywords:forbidden_words": {"forbidden_words": ["word", "a"]},
    "detectable_format:json_format": {},
}
ROWS: dict[str, list[Columns]] = {
    "number": [{"reference": number} for number in ("42", "7", "3.5", "1/2", "-4", "100", "0")],
    "math": [
        {"reference": text}
        for text in ("42", "\\frac{1}{2}", "x^2+1", "(1,2)", "\\{1,2\\}", "x=5", "\\sqrt{2}", "x>3", "\\infty")
    ],
    "choice": [{"reference": letter, "choices": CITIES} for letter in "ABCD"],
    "exact": [{"reference": text} for text in ("Paris", "London", "the", "a")],
    "json_schema": [
        {"schema": EXPRESSION, "reference": 1},
        {"schema": EXPRESSION, "reference": {"op": "+"}},
        {"schema": TREE, "reference": []},
        {"schema": TREE, "reference": {"a": 1}},
        {"schema": INTEGER, "reference": {"a": 1}},
        {"schema": INTEGER, "reference": {"a": 0}},
    ],
    "regex": [{"pattern": r"\d+"}, {"pattern": r"(a|aa)+"}, {"pattern": r"(.*[^\d]){3}x", "anywhere": True}],
    "length": [{"max_words": 2}, {"min_words": 3, "max_words": 50}, {"min_words": 51}],
    "refusal": [{"label": "unsafe"}, {"label": "safe"}],
    "instructions": [
        _following("length_constraints:number_sentences", num_sentences=3, relation="at least"),
        _following("length_constraints:number_sentences", num_sentences=3, relation="less than"),
        {"instructions": list(MANY), "settings": list(MANY.values())},
    ],
    "code": [PROGRAM | {"test": CHECK.format("2, 4, 6")}, PROGRAM | {"test": CHECK.format("3, 6, 9")}],
}
"""Rows by their verifier; no answer is right for two of them."""


INVISIBLE = " \n\t\r\u200b\u2800\u3164\xad\ufeff\u202e\u0301\U000e0041\U000e0020\u115f\ufe0f\0\x01"
"""The characters of the pieces that leave no mark."""


@dataclass
class Tally:
    """What the answers did to one verifier."""

    seconds: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    """The kind of each failure, and the answer."""
    slowest: str = ""


def attack(name: str, texts: Iterable[str], clock: Callable[[], float] = time.perf_counter) -> Tally:
    """Grade every text by every row of the verifier. clock: gives the seconds that count as a verdict's time."""
    tally = Tally()
    for text in texts:
        right = 0
        for row in ROWS[name]:
            start = clock()
            try:
                verdict = catalog.verify(name, text, row)
            except Exception as error:  # of any kind: a crash
                tally.failures.append((f"crash: {error!r}", text))
                continue
            taken = clock() - start
            if taken > max(tally.seconds, default=0):
                tally.slowest = text
            tally.seconds.append(taken)
            tally.counts[verdict.status] += 1
            right += verdict.score == 1
            if taken > LIMIT:
                tally.failures.append((f"slow: {taken:.2f} s, {verdict.reason[:60]}", text))
            if verdict.status == "not_gradable" and name != "refusal":
                tally.failures.append((f"not gradable: {verdict.reason[:60]}", text))
        if right > 1:
            tally.failures.append((f"right for {right} rows", text))
        if right and not text.strip(INVISIBLE):
            tally.failures.append(("invisible, and right", text))
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    options = parser.parse_args()
    texts = list(answers(options.answers, options.seed))
    for name in options.only:
        catalog.verify(name, "1", ROWS[name][0])  # imports, and starts what it needs
        start = time.perf_counter()
        tally = attack(name, texts)
        wall, seconds = time.perf_counter() - start, sorted(tally.seconds)
        print(
            f"{name}: {len(seconds)} verdicts in {wall:.0f} s, median {seconds[len(seconds) // 2] * 1000:.2f} ms, most "
            f"{seconds[-1]:.2f} s ({tally.slowest[:40]!r}, {len(tally.slowest)}); {dict(tally.counts)}",
            flush=True,
        )
        for kind, text in tally.failures[:15]:
            print(f"  {kind}: {text[:70]!r}... ({len(text)} characters)", flush=True)
        if len(tally.failures) > 15:
            print(f"  and {len(tally.failures) - 15} more")


if __name__ == "__main__":
    main()
