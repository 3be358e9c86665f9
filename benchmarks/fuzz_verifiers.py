r"""Fuzzed answers through the verifiers `number` and `math`: crashes, hangs, false accepts, time per verdict.

    python -m benchmarks.fuzz_verifiers [--answers 10000] [--seed 0] [--gsm8k FILE]

Each answer is made from a gold value, so that its verdict is known by construction: the value in another form
(LaTeX, thousands, fractions, powers of ten, prose around it), another value in such a form (a digit changed, the sign
flipped, a reciprocal, a hair's breadth off), several values at once, or hostile text (towers of powers, open braces,
Unicode, very long runs). Accepting one of the last three kinds is a false accept; rejecting one of the first is a
false reject, which is counted but not an error: some forms are ambiguous by design. A crash is an exception, a hang a
verdict that takes longer than the limit of `math` and its restart. Half of the answers are judged in the main
thread, half in another. ``--gsm8k`` also judges the gold answers of that file, as they are and boxed.
"""

import argparse
import collections
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Columns, Verdict
from tunesmith.verifiers.worker import pool

VERIFIERS: dict[str, Callable[[str, Columns], Verdict]] = {
    name: partial(catalog.verify, name) for name in ("number", "math")
}
HANG = 2 * pool.SECONDS + 5
"""Seconds of a hang: more than the limits of completion and reference, and the start of a process."""
PROSE = [
    "{}", "The answer is {}.", "So she has {} left.", "5 - 3 = 2, therefore the answer is {}", "**{}**", "#### {}",
    "Step 1: 2 apples.\nStep 2: 7 more.\n\n{}", "答案是 {}", "I get 12.\nFinal answer: {}", "\u200b{}\ufeff", "{}\n\n",
]  # fmt: skip
LATEX = [
    "\\boxed{{{}}}",
    "${}$",
    "\\[ {} \\]",
    "$$x = {}$$",
    "The answer is $\\boxed{{{}}}$.",
    "\\( {} \\)",
    "\\boxed{{ {} }}.",
]
HOSTILE = [
    "9^{9^{9^{9}}}", "10^{10^{10}}", "2^{2^{40}}", "((x+1)^{60}(y+2)^{60})^{4}", "(1+\\frac{1}{7})^{10^8}", "{" * 250,
    "\\frac{" * 40, "(" * 290, "\\sqrt{" * 30 + "2" + "}" * 30, "x^" * 100, "9" * 5000, "9" * 290 + "!", "1," * 40_000,
    "-" * 50_000, "71717 " * 15_000, "10^" * 20_000, "\\boxed{" * 5000, "\\input{/etc/passwd}", "\ud800", "\0" * 100,
    "__import__('os').abort()", "\\sum_{k=1}^{10^9} k", "\\int_0^\\infty e^{-x^2} dx", "1e999999", "0/0", "NaN", "٤٢",
    "\\frac{1}{0}", "\\text{" + "a" * 250 + "}", "=" * 1000, "$" * 5001, "####" * 2000, "\\\\" * 5000, "½" * 500,
    "\U0001d7dc\U0001d7da",
]  # fmt: skip


@dataclass(frozen=True)
class Fuzzed:
    """A fuzzed answer. right: whether the completion answers with the reference's value."""

    reference: str
    completion: str
    right: bool


@dataclass
class Tally:
    seconds: list[float] = field(default_factory=list)
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[tuple[str, Fuzzed]] = field(default_factory=list)

    def add(self, kind: str, answer: Fuzzed) -> None:
        self.counts[kind] += 1
        self.failures.append((kind, answer))


def answers(count: int, seed: int, hostile: float = 0.01) -> Iterator[Fuzzed]:
    """Fuzzed answers, of which the share ``hostile`` is hostile text; each of those takes `math` seconds."""
    rng = random.Random(seed)
    for _ in range(count):
        gold = _value(rng)
        reference = _plain(gold)
        kind = rng.random()
        if kind < hostile:
            yield Fuzzed(reference, _wrapped(rng.choice(HOSTILE), rng), right=False)
        elif kind < 0.4:
            yield Fuzzed(reference, _wrapped(_written(gold, rng), rng), right=True)
        elif kind < 0.5:
            guesses = [_written(value, rng) for value in (gold, _other(gold, rng), _other(gold, rng))]
            rng.shuffle(guesses)
            several = rng.choice([", ", " or ", " and "]).join(guesses)
            yield Fuzzed(reference, rng.choice(["\\boxed{{{}}}", "\\boxed{{\\{{{}\\}}}}"]).format(several), right=False)
        else:
            yield Fuzzed(reference, _wrapped(_written(_other(gold, rng), rng), rng), right=False)


def judge(name: str, fuzzed: list[Fuzzed], tally: Tally) -> None:
    """Judge every answer by a verifier, and count the failures."""
    for answer in fuzzed:
        start = time.perf_counter()
        try:
            verdict = VERIFIERS[name](answer.completion, {"reference": answer.reference})
        except Exception as error:  # of any kind: a crash
            tally.add(f"crash: {error!r}", answer)
            continue
        taken = time.perf_counter() - start
        tally.seconds.append(taken)
        tally.counts[verdict.status] += 1
        if taken > HANG:
            tally.add("hang", answer)
        if verdict.status == "not_gradable" or verdict.score not in (0, 1):
            tally.add("not gradable", answer)
        if verdict.score > 0 and not answer.right:
            tally.add("false accept", answer)
        if verdict.score < 1 and answer.right:
            tally.add("false reject", answer)


def _value(rng: random.Random) -> Fraction:
    size = rng.choice([10, 100, 1000, 10**5, 10**7, 10**12])
    whole = Fraction(rng.randrange(-size // 5, size))
    match rng.randrange(5):
        case 0:
            return whole + Fraction(rng.randrange(1000), 1000)
        case 1:
            return Fraction(rng.randrange(-50, 50), rng.randrange(1, 50))
        case _:
            return whole


def _other(value: Fraction, rng: random.Random) -> Fraction:
    """Another value, close to ``value`` in some sense."""
    digits = list(_plain(value))
    place = rng.choice([position for position, digit in enumerate(digits) if digit.isdigit()])
    digits[place] = rng.choice("123456789")
    others = [
        *(-value, value + 1, value - 1, value * 10, value / 10, value * 100, value / 100, value / 1000, value * 1000),
        *(value + Fraction(1, 10**7), value - Fraction(1, 10**12), value * (1 + Fraction(1, 10**9)), value + 10**20),
        *(1 / value if value else Fraction(1), value**2, value / 2, Fraction("".join(digits)), Fraction(0)),
    ]
    return rng.choice([other for other in others if other != value])


def _plain(value: Fraction) -> str:
    return _decimal(value) or f"{value.numerator}/{value.denominator}"


def _decimal(value: Fraction) -> str | None:
    """The decimal notation of ``value``; None where it does not end."""
    for places in range(31):
        if 10**places % value.denominator == 0:
            digits = f"{abs(value) * 10**places // 1:0{places + 1}d}"
            point = f"{digits[:-places]}.{digits[-places:]}" if places else digits
            return ("-" if value < 0 else "") + point
    return None


def _written(value: Fraction, rng: random.Random) -> str:
    """``value`` exactly, in one of its forms."""
    sign, size, decimal = "-" if value < 0 else "", abs(value), _decimal(value)
    forms = [f"{sign}\\frac{{{size.numerator}}}{{{size.denominator}}}", f"{sign}{size.numerator}/{size.denominator}"]
    whole, rest = divmod(size, 1)
    if whole and rest:
        forms.append(f"{sign}{whole}\\frac{{{rest.numerator}}}{{{rest.denominator}}}")
        forms.append(f"{sign}{whole} {rest.numerator}/{rest.denominator}")
    if decimal:
        grouped = f"{int(size):,}" + (("." + decimal.partition(".")[2]) if "." in decimal else "")
        forms += [decimal, decimal, decimal.replace("-", "−"), sign + grouped, f"{sign}${grouped}", f"{decimal}%"]
        forms += [f"{decimal} apples", f"{decimal}\\text{{ cm}}", f"{decimal}\\%", f"{sign}\\${grouped}"]
        forms += [sign + grouped.replace(",", separator) for separator in ("\\,", "{,}", "\u202f")]
        forms.append(decimal + ("00" if "." in decimal else ".00"))
        scaled = _decimal(value / 1000)
        forms += [f"{scaled}e3", f"{scaled}\\times 10^{{3}}", f"{scaled} \\cdot 10^3"] if scaled else []
    return rng.choice(forms)


def _wrapped(text: str, rng: random.Random) -> str:
    return rng.choice(PROSE + LATEX).format(text)


def _report(name: str, tally: Tally, wall: float) -> None:
    times = sorted(tally.seconds)
    print(f"{name}: {len(times)} verdicts in {wall:.1f} s on two threads; {dict(tally.counts)}")
    middle, rare, most = (times[int(share * (len(times) - 1))] * 1000 for share in (0.5, 0.99, 1))
    mean = statistics.mean(times) * 1000
    print(f"  ms per verdict: median {middle:.3f}, mean {mean:.3f}, 99% {rare:.1f}, most {most:.0f}")
    for kind, answer in tally.failures[:20]:
        print(f"  {kind}: {answer.reference!r} from {answer.completion[:120]!r}")


def _gold(path: Path) -> None:
    """Judge the gold answers of GSM8K as completions: worked out, the number alone, and boxed."""
    golds = [json.loads(line)["answer"] for line in path.read_text().splitlines()]
    for name, verify in VERIFIERS.items():
        scores = collections.Counter[str]()
        for gold in golds:
            final = gold.rpartition("####")[2].strip()
            for form, text in {"worked": gold, "alone": final, "boxed": f"So it is \\boxed{{{final}}}."}.items():
                scores[form] += verify(text, {"reference": gold}).score == 1
        print(f"{name}: gold answers right of {len(golds)}: {dict(scores)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gsm8k", type=Path)
    options = parser.parse_args()
    if options.gsm8k:
        _gold(options.gsm8k)
    fuzzed = list(answers(options.answers, options.seed))
    for name in VERIFIERS:
        tally, start = Tally(), time.perf_counter()
        thread = threading.Thread(target=judge, args=(name, fuzzed[::2], tally))
        thread.start()
        judge(name, fuzzed[1::2], tally)
        thread.join()
        _report(name, tally, time.perf_counter() - start)


if __name__ == "__main__":
    main()
