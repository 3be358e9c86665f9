import copy
import json
from pathlib import Path

import pytest
from rich.console import Console
from shoot_out import HOW, TUNED, models

from tunesmith.cli import results
from tunesmith.core import layout
from tunesmith.evaluation import comparison


def printed(*names: str) -> list[str]:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(results.table(comparison.compare(models(*names), [], HOW)))
    return captured.get().splitlines()


def test_seven_models_fit_a_terminal_of_100_columns() -> None:
    names = list(TUNED)[:6]
    lines = printed(*names)
    assert not any("…" in line for line in lines)
    assert max(len(line.rstrip()) for line in lines) <= 100
    for name in ["base", *names]:
        assert sum(line.split()[:1] == [name] for line in lines) == 1


def test_a_model_from_the_base_has_no_column_for_its_start() -> None:
    assert "against start" not in "".join(printed("sft-lora"))
    assert "against start" in "".join(printed("sft-lora", "dpo"))


def test_an_earlier_models_registration_is_not_shown_as_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "REGISTERED", tmp_path)
    assert results.registered("tuned", "d2") == "tuned is not registered yet"
    (tmp_path / "tuned").mkdir()
    record = {"registered_model": "m", "version": "1", "model_digest": "d1"}
    (tmp_path / "tuned" / "registration.json").write_text(json.dumps(record))
    assert results.registered("tuned", "d1") == "registered: m version 1 (tuned)"
    assert results.registered("tuned", "d2") == "tuned is not registered yet: m version 1 is an earlier tuned"


def test_the_results_suggest_to_promote_only_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "REPORTS", tmp_path)
    decisions = {
        name: {"outcome": outcome, "reason": f"{name}: {outcome}"}
        for name, outcome in {"sft-lora": "pass", "grpo": "pass", "rlhf": "undecided"}.items()
    }
    made = comparison.compare(models("sft-lora", "grpo", "rlhf"), [], HOW, decisions=decisions)
    (tmp_path / "comparison.json").write_text(json.dumps(made))
    results.show()
    shown = capsys.readouterr().out
    assert shown.count("promote") == shown.count("promote grpo") == 1
    assert "tunesmith ui " in shown
    assert "⚠ rlhf: the reward rose" in shown
    assert "gate: rlhf: undecided" in shown


def test_other_suites_are_marked_by_their_difference_from_the_start() -> None:
    compared = comparison.compare(models("sft-lora", "dpo"), [], HOW)
    other = copy.deepcopy(compared["suites"][compared["suite"]])
    other["against_start"]["dpo"]["verdict"], other["against_baseline"]["dpo"]["verdict"] = "better", "worse"
    other["against_baseline"]["sft-lora"]["verdict"] = "worse"
    compared["suites"]["brevity"] = other
    console = Console(width=100)
    with console.capture() as captured:
        console.print(results.other_suites(compared))
    marks = {line.split()[0]: line.split()[2:3] for line in captured.get().splitlines() if "%" in line}
    assert marks == {"base": [], "sft-lora": ["▼"], "dpo": ["▲"]}
