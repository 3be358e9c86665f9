import csv
import io
from pathlib import Path

from dvc_render.vega import VegaRenderer
from reports.specs import drawn
from shoot_out import HOW, SUITE, models

from tunesmith.core.journal import Event
from tunesmith.evaluation import comparison
from tunesmith.reports import dvc_plots, plot_template


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_suite_has_a_file_with_the_score_of_every_model() -> None:
    compared = comparison.compare(models("sft-lora", "dpo"), [], HOW)
    files = dvc_plots.scores(compared)
    assert list(files) == [f"{SUITE}.csv"]
    rows = table(files[f"{SUITE}.csv"])
    assert [row["model"] for row in rows] == ["base", "sft-lora", "dpo"]
    for end in ("score", "low", "high"):
        assert [float(row[end]) for row in rows] == [model[end] for model in compared["models"].values()]


def test_dvc_draws_scores_by_the_template_of_this_repository() -> None:
    committed = Path(__file__).parents[2] / plot_template.PATH
    assert committed.read_text() == plot_template.template()
    rows = [
        row | {"rev": rev} for rev in ("workspace", "HEAD") for row in table("model,score,low,high\nbase,0.1,0,0.2\n")
    ]
    about = {"x": "score", "y": "model", "template": str(committed), "title": "Scores"}
    filled = VegaRenderer(rows, "scores.csv", **about).get_filled_template()
    svg = drawn({**filled, "$schema": "https://vega.github.io/schema/vega-lite/v5.json"}, version="5.8")  # DVC's is 5.2
    for text in ("Scores", "score", "base", "workspace", "HEAD"):
        assert f">{text}<" in svg


def test_every_training_has_a_file_with_its_losses_by_step() -> None:
    journal: list[Event] = [
        {"event": "step", "step": 2, "loss": 0.7},
        {"event": "step", "step": 3, "loss": None},
        {"event": "validation", "step": 3, "loss": 0.8},
    ]
    files = dvc_plots.losses(models("sft-lora", "rlhf"), {"reward": journal})
    assert list(files) == ["sft-lora.csv", "rlhf.csv", "reward.csv"]
    sft, rlhf = table(files["sft-lora.csv"]), table(files["rlhf.csv"])
    assert [row["step"] for row in sft] == [str(step) for step in range(61)]
    assert [row["step"] for row in sft if row["loss"] == "NaN"] == ["0"]
    assert [row["step"] for row in sft if row["validation"] != "NaN"] == ["0", "12", "24", "36", "48", "60"]
    assert len(rlhf) == 60
    assert {row["validation"] for row in rlhf} == {"NaN"}  # which measures a score
    assert table(files["reward.csv"]) == [
        {"step": "2", "loss": "0.7", "validation": "NaN"},
        {"step": "3", "loss": "NaN", "validation": "0.8"},
    ]
