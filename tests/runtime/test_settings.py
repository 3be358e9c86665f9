"""The section `runtime`, and what goes together in it."""

from pathlib import Path
from typing import Any

import pytest
from runtime_settings import DIGEST, write_params

from tunesmith.core import layout
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import SECTIONS
from tunesmith.runtime import (
    settings,
)

ROOT = Path(__file__).parents[2]


def test_stages_run_on_the_host_by_default_and_in_this_project(tmp_path: Path) -> None:
    assert settings.read(ROOT / "params.yaml").engine == "host"
    (tmp_path / "params.yaml").write_text("sft: {}\n")
    assert settings.read(tmp_path / "params.yaml") == settings.Runtime()
    assert "runtime" in SECTIONS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "host", "image": DIGEST}, "engine host runs stages in no image"),
        ({"engine": "docker", "image": None}, "engine docker needs one"),
        ({"engine": "podman"}, "runtime.engine"),
        ({"memory": "lots"}, "runtime.memory"),
        ({"gpus": "some"}, "runtime.gpus"),
        ({"pids": 0}, "runtime.pids"),
        ({"cpus": 0}, "runtime.cpus"),
        ({"checkpoint_minutes": 0}, "runtime.checkpoint_minutes"),
    ],
)
def test_bad_params_are_errors_that_name_them(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=message):
        settings.read(write_params(tmp_path, **changes))


@pytest.mark.parametrize(
    ("minutes", "variable", "seconds"),
    [(None, None, None), (0.5, None, "30.0"), (0.5, "7", "7"), (None, "7", "7")],
)
def test_the_time_between_checkpoints_is_that_of_the_variable_before_that_of_params(
    minutes: float | None, variable: str | None, seconds: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(layout.CHECKPOINT_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(layout.CHECKPOINT_VARIABLE, variable)
    given = settings.Runtime(checkpoint_minutes=minutes).environment
    assert given.get(layout.CHECKPOINT_VARIABLE) == seconds
