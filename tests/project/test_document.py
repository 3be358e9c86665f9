from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith.core.errors import ParamsError
from tunesmith.evaluation.gate_rules import Improve
from tunesmith.project import document
from tunesmith.project.document import Document

MINE: dict[str, Any] = {
    "data": {"rows": {"path": "rows.jsonl"}},
    "sft": {"mine": {"dataset": "rows"}},
    "evaluate": {"suites": {"s": {"dataset": "rows", "verifier": "exact"}}},
}


def load(folder: Path, **changes: Any) -> Document:
    (folder / "params.yaml").write_text(yaml.safe_dump(MINE | changes, sort_keys=False))
    return document.load(folder / "params.yaml")


def test_a_project_states_what_it_chose_and_defaults_are_the_rest(tmp_path: Path) -> None:
    project = load(tmp_path)
    assert project.sft["mine"].weights == "lora"
    assert project.runtime.engine == "host"


def test_effective_params_state_every_value_and_load_as_the_same_document(tmp_path: Path) -> None:
    project = load(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document.effective(project)))
    assert document.load(tmp_path / "params.yaml") == project


def test_a_gate_without_rules_asks_that_the_score_on_the_first_suite_improves(tmp_path: Path) -> None:
    assert load(tmp_path).gate.rules == (Improve(must="improve", suite="s", metric="score", by=0.0),)
    stated = {"rules": [{"must": "keep", "suite": "s", "metric": "score", "within": 0.1}]}
    assert [rule.must for rule in load(tmp_path, gate=stated).gate.rules] == ["keep"]
    assert load(tmp_path, evaluate={}, sft={}).gate.rules == ()


PAIRS = {"dataset": "rows", "start": "base"}


@pytest.mark.parametrize(
    ("users", "kind"),
    [
        ({"sft": {"m": {"dataset": "rows"}}}, "answers"),
        ({"dpo": {"m": PAIRS}}, "preferences"),
        ({"kto": {"m": PAIRS}}, "marks"),
        ({"reward": {"m": PAIRS}}, "preferences"),
        ({"grpo": {"m": PAIRS | {"rewards": {"number": 1.0}}}}, "scored"),
        ({"rlhf": {"m": PAIRS | {"reward": "r"}}}, None),  # the prompts of rows of any kind
        ({}, None),
        (
            {
                "evaluate": {
                    "suites": {
                        "first": {"dataset": "other", "verifier": "exact"},
                        "s": {"kind": "preferences", "dataset": "rows"},
                    }
                }
            },
            "preferences",
        ),
    ],
)
def test_a_data_set_without_a_kind_has_the_one_that_its_users_need(
    tmp_path: Path, users: dict[str, Any], kind: str | None
) -> None:
    assert load(tmp_path, **({"sft": {}, "evaluate": {}} | users)).data["rows"].kind == kind


def test_a_stated_kind_stays(tmp_path: Path) -> None:
    data = {"rows": {"path": "rows.jsonl", "kind": "preferences"}}
    assert load(tmp_path, data=data).data["rows"].kind == "preferences"


def test_users_that_need_different_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as error:
        load(tmp_path, dpo={"two": PAIRS})
    assert "data.rows: its rows would have to be answers for sft.mine, preferences for dpo.two" in str(error.value)
    assert "make a data set for each, or state data.rows.kind" in error.value.fix
