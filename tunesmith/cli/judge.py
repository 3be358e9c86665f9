"""`tunesmith judge`: measure a judge on labelled pairs and, if it can be believed, let it compare two models."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from tunesmith.core import formatting, layout, params, ready_rows
from tunesmith.core.errors import EvaluationError, ParamsError
from tunesmith.core.ready_rows import Sample, split_reasoning
from tunesmith.core.statistics import mean_interval
from tunesmith.evaluation.comparison import BASELINE
from tunesmith.evaluation.judge import Agreement, agreement, compare
from tunesmith.verifiers.judge.endpoint import Judge

REPORTS = Path("reports")
CONFIDENCE = 0.95
POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}
"""Points of the first model in a comparison, by the winner."""


def run(name: str, *, against: str = BASELINE, pairs: Path, limit: int) -> None:
    """Print the judge's agreement with ``pairs``, then how often it prefers ``name`` to ``against``.

    pairs: ready preference rows. limit: limit on prompts and on pairs; each takes two requests. Writes
    reports/judged/<name>.json. Raises ParamsError where params.yaml names no judge; EvaluationError where the judge
    cannot be believed.
    """
    if params.read().get("judge") is None:
        raise ParamsError("params.yaml: no judge is named", fix="add one: judge: {base_url: https://..., model: NAME}")
    judge = params.load(Judge, "judge")
    labelled = ready_rows.read(pairs)[:limit]
    measured = agreement(judge, tqdm(labelled, desc="measuring the judge", dynamic_ncols=True), confidence=CONFIDENCE)
    print(summary(measured))
    if not measured.believed:
        raise EvaluationError(
            f"{judge.model} cannot be believed: the interval of its agreement with {pairs} reaches down to "
            f"{formatting.percent(measured.interval.low)}, not above {formatting.percent(judge.believed_above)}",
            fix="measure it on more pairs (--limit), or use a better judge",
        )
    prompts = _both(name, against)[:limit]
    points = [
        POINTS[compare(judge, first["row"]["prompt"], _answer(first), _answer(second)).winner]
        for first, second in tqdm(prompts, desc="judging", dynamic_ncols=True)
    ]
    interval = mean_interval(points, confidence=CONFIDENCE, resamples=10_000, seed=0)
    rate = sum(points) / len(points)
    report = {
        "judge": judge.model, "time": time.time_ns() // 1_000_000, "against": against, "prompts": len(points),
        "preferred": rate, "low": interval.low, "high": interval.high, "agreement": asdict(measured),
    }  # fmt: skip
    ready_rows.write_json(REPORTS / "judged" / f"{name}.json", report)
    print(
        f"{name} is preferred to {against} in {formatting.percent(rate)} of {len(points)} prompts, ties half "
        f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    )


def summary(measured: Agreement) -> str:
    """An agreement in one line."""
    interval = f"[{100 * measured.interval.low:.1f}, {100 * measured.interval.high:.1f}]"
    return (
        f"the judge agrees with {formatting.percent(measured.accuracy)} {interval} of {measured.pairs} labelled pairs; "
        f"{formatting.percent(measured.ties)} ties, position bias {formatting.points(measured.position_bias)} points, "
        f"{formatting.percent(measured.unreadable)} unreadable"
    )


def _both(name: str, against: str) -> list[tuple[Sample, Sample]]:
    """Both models' samples of the first suite that has answers."""
    suites = [
        json.loads((layout.EVALUATION / model / "metrics.json").read_text())["suites"] for model in (name, against)
    ]
    ranked = next(name for name, suite in suites[0].items() if suite["kind"] == "answers")
    if suites[0][ranked]["prompts_digest"] != suites[1].get(ranked, {}).get("prompts_digest"):
        raise EvaluationError(f"{name} and {against} answered different prompts", fix="evaluate both with `dvc repro`")
    samples = [ready_rows.read_samples(layout.EVALUATION / model / "samples.jsonl") for model in (name, against)]
    first, second = ([sample for sample in own if sample["suite"] == ranked] for own in samples)
    return list(zip(first, second, strict=True))


def _answer(sample: Sample) -> str:
    """The answer of a model without its reasoning."""
    return split_reasoning(sample["completion"])[1]
