"""Reports of sweeps for tests."""

from typing import Any

from tunesmith.reports import sweep_page
from tunesmith.reports.sweep_page import SweepReport, SweepTrial


def trial(number: int, value: float | None, rate: float, **changes: Any) -> SweepTrial:
    made: dict[str, Any] = {
        "name": f"mine-s1-{number:02d}",
        "values": {"learning_rate": rate, "weights": "lora" if number % 2 else "full"},
        "state": "finished",
        "reason": "",
        "value": value,
        "step": 20,
        "before": 2.0,
        "measured": [[10, 1.5], [20, value]],
        "seconds": 61.0,
    }
    return made | changes  # type: ignore[return-value]


TRIALS = [
    trial(1, 0.9, 1e-4),
    trial(2, 0.5, 1e-3),
    trial(3, 0.4, 2e-3, state="stopped", reason="after 2 measurements"),
    trial(4, 0.5, 3e-3),
    trial(5, None, 1e-1, state="failed", reason="<script>alert(1)</script>", measured=[], step=None, before=None),
]


def report(trials: list[SweepTrial]) -> SweepReport:
    chosen = sweep_page.choose(trials, lower_is_better=True)
    return {
        "name": "mine-s1",
        "training": "sft.mine",
        "by": "loss",
        "lower_is_better": True,
        "dataset": "rows",
        "rows": 16,
        "commit": "c0ffee" * 6,
        "sampler": "TPE",
        "stops": "None was stopped.",
        "space": {"learning_rate": "0.0001 to 0.1", "weights": "lora, full"},
        "trials": trials,
        "chosen": chosen and chosen["name"],
        "why": sweep_page.why(trials, "loss", lower_is_better=True),
    }
