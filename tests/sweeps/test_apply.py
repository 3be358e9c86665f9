from pathlib import Path
from typing import cast

import pytest
import yaml

from tunesmith.core.errors import EvaluationError
from tunesmith.reports.sweep_page import SweepReport
from tunesmith.sweeps import apply

TEXT = """# mine
sft:
  mine: {dataset: rows, learning_rate: 1.0e-3} # by hand
"""


def report(name: str, rates: list[float], chosen: str | None) -> SweepReport:
    trials = [
        {"name": f"{name}-{number:02d}", "values": {"learning_rate": rate, "lora.rank": 8}}
        for number, rate in enumerate(rates, 1)
    ]
    about = {"name": name, "training": "sft.mine", "by": "loss", "trials": trials, "chosen": chosen, "why": "none."}
    return cast("SweepReport", about)


FIRST, SECOND = report("mine-s1", [0.1, 0.2], "mine-s1-02"), report("mine-s2", [0.3], "mine-s2-01")


def test_the_winners_params_are_written_with_how_many_were_tried(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    assert apply.winner([FIRST], path) == {"sft.mine.learning_rate": 0.2, "sft.mine.lora.rank": 8}
    assert path.read_text() == (
        "# mine\nsft:\n  mine: {dataset: rows, learning_rate: 0.2, lora: {rank: 8}} # by hand\n\n"
        "sweeps: {mine: {by: loss, tried: {mine-s1: 2}, applied: [mine-s1-02]}}\n"
    )


def test_line_ends_of_params_yaml_stay(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    apply.winner([FIRST], path)
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n") == 5


def test_winners_of_later_sweeps_add_up_and_the_same_winner_does_not(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    for reports in ([FIRST], [FIRST], [FIRST, SECOND]):
        apply.winner(reports, path)
    assert yaml.safe_load(path.read_text())["sweeps"]["mine"] == {
        "by": "loss",
        "tried": {"mine-s1": 2, "mine-s2": 1},
        "applied": ["mine-s1-02", "mine-s2-01"],
    }


def test_a_sweep_without_a_winner_is_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    with pytest.raises(EvaluationError, match="mine-s1: none"):
        apply.winner([report("mine-s1", [0.1], None)], path)
    assert path.read_text() == TEXT
