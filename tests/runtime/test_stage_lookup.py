"""The stage of dvc.yaml that a command runs."""

from pathlib import Path

import pytest

from tunesmith.core.errors import ContainerError
from tunesmith.runtime import (
    stage_lookup,
)

ROOT = Path(__file__).parents[2]


def test_a_stage_is_found_by_its_command_with_its_outputs_and_its_network(dvc_project: Path) -> None:
    stage = stage_lookup.find("train", ["b"], dvc_project)
    assert (stage.target, stage.outs, stage.network) == ("train@b", (Path("models/b"),), False)
    assert stage_lookup.find("fetch", [], dvc_project).network


def test_a_stage_runs_in_its_container_as_its_module_with_its_arguments(dvc_project: Path) -> None:
    assert stage_lookup.words(stage_lookup.find("train", ["b"], dvc_project)) == ["train", "b"]
    assert stage_lookup.words(stage_lookup.find("fetch", [], dvc_project)) == ["fetch"]


def test_a_command_that_is_no_stage_is_refused(dvc_project: Path) -> None:
    with pytest.raises(ContainerError, match=r"no stage runs `exec python -m tunesmith.runtime train c`"):
        stage_lookup.find("train", ["c"], dvc_project)
