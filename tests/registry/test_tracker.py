"""Requests to a tracking server: long timeouts for files only, no password in an error, no telemetry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from mlflow.exceptions import MlflowException, RestException

from tunesmith.cli.main import main
from tunesmith.core.errors import RegistryError, UnreachableTrackerError
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.tracker import TRANSFER_TIMEOUT, raising_registry_errors, transfer_timeout


def test_transfers_of_files_have_a_longer_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with transfer_timeout():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == TRANSFER_TIMEOUT
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"


def test_a_password_in_the_address_is_not_in_the_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:s3cret@127.0.0.1:9")
    with pytest.raises(RegistryError, match=r"at http://ada:…@127\.0\.0\.1:9") as error:
        Registry()
    assert "s3cret" not in str(error.value)


def test_an_error_without_a_message_is_named_by_its_type() -> None:
    with pytest.raises(UnreachableTrackerError, match="uri failed: ReadTimeout"), raising_registry_errors("uri"):
        raise requests.ReadTimeout


def responded(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("refused", response=response)


@pytest.mark.parametrize(
    ("error", "unreachable"),
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
def test_an_unreachable_server_is_distinguished_from_one_that_refuses(error: Exception, unreachable: bool) -> None:
    with pytest.raises(RegistryError) as raised, raising_registry_errors("uri"):
        raise error
    assert isinstance(raised.value, UnreachableTrackerError) == unreachable


def test_runs_and_versions_are_at_one_address(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow would take another address for its registry from its own variable."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:9")
    registry = Registry()
    registry.create("m", {"a": "1"})
    assert registry.tags("m") == {"a": "1"}


WATCH = """
import os, sys
values = []
def hook(event, args):
    if event == "import" and args[0] == "mlflow" and not values:
        values.append(os.environ.get("MLFLOW_DISABLE_TELEMETRY"))
sys.addaudithook(hook)
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import tunesmith.registry.publishing",
        "from tunesmith.registry.registered_models import Registry; Registry().client",
    ],
)
def test_telemetry_is_disabled_before_mlflow_is_imported(project: Path, statement: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_DISABLE_TELEMETRY"}
    program = [sys.executable, "-c", f"{WATCH}\n{statement}\nprint(values)"]
    done = subprocess.run(program, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['true']"


@pytest.mark.parametrize(
    "command",
    [["history"], ["lineage", "1"], ["promote", "1"], ["rollback"], ["reproduce", "1"], ["history", "--accept", "r"]],
)
def test_what_only_reads_creates_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text("registry: {model: calculator}\n")
    done = CliRunner().invoke(main, command)
    assert "there is no such database" in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
