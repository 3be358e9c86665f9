import csv
import io

from shoot_out import HOW, SUITE, models

from tunesmith.evaluation import comparison
from tunesmith.reports import dvc_plots


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_model_has_a_score_on_every_suite() -> None:
    made = comparison.compare(models("sft-lora", "dpo"), [], HOW)
    rows = table(dvc_plots.scores(made))
    assert [row["model"] for row in rows] == ["base", "sft-lora", "dpo"]
    assert [float(row[SUITE]) for row in rows] == [model["score"] for model in made["models"].values()]


def test_every_training_has_its_losses_by_step() -> None:
    rows = table(dvc_plots.losses(models("sft-lora", "rlhf"), {"reward": [{"event": "step", "step": 2, "loss": 0.7}]}))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 61)]
    assert all(row["sft-lora"] and row["rlhf"] for row in rows)
    assert {row["step"]: row["reward"] for row in rows if row["reward"]} == {"2": "0.7"}
