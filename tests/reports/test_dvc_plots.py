import csv
import io

from shoot_out import HOW, SUITE, models

from tunesmith.core.journal import Event
from tunesmith.evaluation import comparison
from tunesmith.reports import dvc_plots


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_suite_has_a_file_with_the_score_of_every_model() -> None:
    compared = comparison.compare(models("sft-lora", "dpo"), [], HOW)
    files = dvc_plots.scores(compared)
    assert list(files) == [f"{SUITE}.csv"]
    rows = table(files[f"{SUITE}.csv"])
    assert [row["model"] for row in rows] == ["base", "sft-lora", "dpo"]
    assert [float(row["score"]) for row in rows] == [model["score"] for model in compared["models"].values()]


def test_every_training_has_a_file_with_its_losses_by_step() -> None:
    journal: list[Event] = [{"event": "step", "step": 2, "loss": 0.7}, {"event": "step", "step": 3, "loss": None}]
    files = dvc_plots.losses(models("sft-lora", "rlhf"), {"reward": journal})
    assert list(files) == ["sft-lora.csv", "rlhf.csv", "reward.csv"]
    for name in ("sft-lora.csv", "rlhf.csv"):
        assert [row["step"] for row in table(files[name])] == [str(step) for step in range(1, 61)]
        assert all(row["loss"] for row in table(files[name]))
    assert table(files["reward.csv"]) == [{"step": "2", "loss": "0.7"}, {"step": "3", "loss": ""}]
