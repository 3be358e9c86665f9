"""Ask a model the test prompts, greedily, and grade what it answers.

    python -m stages.evaluate base

reads   models/base, models/<model>, the full weights it may be on, data/ready/<evaluate.dataset>/test.jsonl
params  evaluate
writes  reports/<model>/metrics.json, reports/<model>/samples.jsonl
"""

import math
import sys
import time
from pathlib import Path

from tunesmith import chat, device, evaluation, harness, models, ready
from tunesmith.console import run
from tunesmith.errors import EvaluationError
from tunesmith.params import load

MODELS, READY, REPORTS = Path("models"), Path("data/ready"), Path("reports")
BASE = MODELS / "base"


def main(name: str) -> str:
    settings = load(evaluation.Evaluate, "evaluate")
    rows = ready.read(READY / settings.dataset / "test.jsonl")
    evaluation.check_references(rows, settings)
    profile = device.detect()
    opened = models.open_model(MODELS / name, BASE, profile)
    began = time.monotonic()
    completions, harness_score = harness.generate_and_grade(
        opened,
        rows,
        verifier=settings.verifier,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
    )
    seconds = time.monotonic() - began
    samples = evaluation.grade(rows, completions, settings)
    metrics = evaluation.summarize(samples)
    if not math.isclose(metrics["score"], harness_score, abs_tol=1e-9):
        raise EvaluationError(
            f"lm-eval's mean score {harness_score} is not the mean of the samples' verdicts {metrics['score']}",
            fix="report this with your params.yaml; no metrics were written",
        )
    report = {
        "model": name,
        "dataset": settings.dataset,
        "verifier": settings.verifier,
        "time": time.time_ns() // 1_000_000,
        **metrics,
        "model_digest": opened.manifest.digest,
        "base_weights_digest": opened.base.weights_digest,
        "template_digest": chat.template_digest(opened.tokenizer),
        "seconds": seconds,
        "peak_memory_bytes": device.peak_memory_bytes(profile),
    }
    ready.write_jsonl(REPORTS / name / "samples.jsonl", samples)
    ready.write_json(REPORTS / name / "metrics.json", report)
    return f"{REPORTS / name}: score {report['score']:.3f} on {len(rows)} prompts in {seconds:.0f} s"


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
