"""How a tracking server is asked: with time for files, without telling passwords, and reporting to nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException

from tunesmith.core.errors import RegistryError, UnreachableTrackerError
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.tracker import TRANSFER_TIMEOUT, raising_registry_errors, transfer_timeout


def test_files_are_given_more_time_than_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with transfer_timeout():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == TRANSFER_TIMEOUT
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"


def test_a_password_in_an_address_is_not_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:s3cret@127.0.0.1:9")
    with pytest.raises(RegistryError, match=r"at http://ada:…@127\.0\.0\.1:9") as told:
        Registry("arithmetic")
    assert "s3cret" not in str(told.value)


def test_a_failure_without_words_is_told_by_its_kind() -> None:
    with pytest.raises(UnreachableTrackerError, match="uri failed: ReadTimeout"), raising_registry_errors("uri"):
        raise requests.ReadTimeout


def responded(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("told", response=response)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (requests.ConnectionError("refused"), True),
        (MlflowException("API request failed with exception refused"), True),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "m"}), True),
        (responded(502), True),
        (responded(429), True),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "m"}), False),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "m"}), False),
        (responded(404), False),
    ],
)
def test_a_server_that_does_not_answer_is_told_from_one_that_refuses(error: Exception, passes: bool) -> None:
    with pytest.raises(RegistryError) as told, raising_registry_errors("uri"):
        raise error
    assert isinstance(told.value, UnreachableTrackerError) == passes


def test_runs_and_versions_are_at_one_address(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else MLflow would take as its registry."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:9")
    registry = Registry("arithmetic")
    registry.create("m", {"a": "1"})
    assert registry.tags("m") == {"a": "1"}


WATCH = """
import os, sys
told = []
def hook(event, given):
    if event == "import" and given[0] == "mlflow" and not told:
        told.append(os.environ.get("MLFLOW_DISABLE_TELEMETRY"))
sys.addaudithook(hook)
"""


@pytest.mark.parametrize(
    "needing_it",
    [
        "import tunesmith.registry.publishing",
        "from tunesmith.registry.registered_models import Registry; Registry('e').client",
    ],
)
def test_mlflow_reports_to_nobody(project: Path, needing_it: str) -> None:
    """It decides as it is imported."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_DISABLE_TELEMETRY"}
    program = [sys.executable, "-c", f"{WATCH}\n{needing_it}\nprint(told)"]
    done = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['true']"
