"""`tunesmith ui` links to the project's runs and starts a server that runs no code of others."""

import os
from pathlib import Path

import pytest

from tunesmith.cli import ui
from tunesmith.registry.runs import Experiment


def test_the_ui_opens_at_the_runs_of_the_experiment(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: started.append(arguments))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    ui.run(5000)
    page = f"http://127.0.0.1:5000/#/experiments/{Experiment('arithmetic').id}/runs?workflowType=machine_learning"
    assert page in capsys.readouterr().err
    assert started[0][1:4] == ["-m", "mlflow", "server"]
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
