"""The tracking server, MLflow's: where it is, what its refusals mean, and the artifacts that it keeps.

MLFLOW_TRACKING_URI names it; without it, everything is in mlflow.db and mlartifacts/ of this project. Nothing is ever
pickled or unpickled: a version's artifact is a model folder, and it is read as files. Of all modules, this one,
experiment.py and registry.py import mlflow; it takes a second, so this one does when something first needs it.
"""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.core.errors import RegistryError, UnreachableTrackerError
from tunesmith.core.params import Section
from tunesmith.registry import mlflow_sqlite

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A dead server must not hold anyone up: MLflow's own defaults retry for four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Artifacts pass through the server. MLflow would have clients ask its object store, which they may not reach.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")

DATABASE, ARTIFACTS = Path("mlflow.db"), Path("mlartifacts")
PATIENCE = "1800"
"""Seconds until an answer while files are copied: the server has each whole before it answers."""


class Names(Section):
    """The section `registry`: the experiment that runs go to, and the registered model that versions belong to."""

    experiment: str = "fine-tuning"
    model: str = "fine-tuned"


def who() -> str:
    """The user's name, or number where a container gave them none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def tracking_uri() -> str:
    """Where runs and models are kept."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri()


def local_uri() -> str:
    """The address of this project's own database."""
    return f"{mlflow_sqlite.SCHEME}{DATABASE.resolve()}"


def without_password(text: str) -> str:
    """A text that may hold the server's address, without the password that that may hold."""
    password = urlsplit(tracking_uri()).password
    return text.replace(f":{password}@", ":…@") if password else text


class Tracker:
    """A connection, made when it is needed. local: the database itself, where it can be read without MLflow."""

    def __init__(self, experiment: str) -> None:
        """experiment: its name; its artifacts are in this project, wherever that was moved to."""
        self.uri = without_password(tracking_uri())
        self.local = mlflow_sqlite.readable(tracking_uri())
        if self.local is not None and self.uri == local_uri():
            self.local.follow(experiment, ARTIFACTS.resolve())

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own. Raises RegistryError where a database cannot be opened; a server is not asked yet."""
        from mlflow import MlflowClient

        with answering(self.uri), mlflow_sqlite.alone(self.uri):
            mlflow_sqlite.lay_out(tracking_uri(), lambda uri: MlflowClient(uri).search_experiments(max_results=1))
            return MlflowClient(tracking_uri(), tracking_uri())

    def upload(self, run: str, path: Path, folder: str | None = None) -> None:
        """Copy a file, or the content of a folder, to the run's artifacts."""
        with answering(self.uri), patient():
            if path.is_dir():
                self.client.log_artifacts(run, str(path), folder)
            else:
                self.client.log_artifact(run, str(path), folder)

    def download(self, run: str, path: str, into: Path) -> Path:
        """Copy a file or folder of a run's artifacts into a folder and return where it lies. Links are not followed."""
        if (here := mlflow_sqlite.folder(self.artifacts(run))) is not None:
            return mlflow_sqlite.copy(here, path, into)
        with answering(self.uri), patient():
            return Path(self.client.download_artifacts(run, path, str(into)))

    def folders(self, run: str, path: str) -> list[str]:
        """Names of the folders in a folder of a run's artifacts."""
        if (here := mlflow_sqlite.folder(self.artifacts(run))) is not None:
            return mlflow_sqlite.folders(here, path)
        with answering(self.uri):
            return [Path(entry.path).name for entry in self.client.list_artifacts(run, path) if entry.is_dir]

    def artifacts(self, run: str) -> str:
        """The address of a run's artifacts."""
        if self.local is not None:
            return self.local.artifacts(run)
        with answering(self.uri):
            return str(self.client.get_run(run).info.artifact_uri)


@contextmanager
def patient() -> Iterator[None]:
    """Give the server time: bytes take what they take."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ[name]
    os.environ[name] = PATIENCE
    try:
        yield
    finally:
        os.environ[name] = before


FIXES = {
    401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to your account there, then run again",
    403: "ask who made it, or an administrator, to let your account (MLFLOW_TRACKING_USERNAME) do this; a server that "
    "does not know its own name must be told it with --allowed-hosts",
}
"""What mends a refusal, by HTTP status."""


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into a RegistryError that says which server, why, and what to do.

    An UnreachableTrackerError where there is no answer, or none but that the server is unwell or has too much to do.
    """
    try:
        yield
    except _refusals() as error:
        told = str(error).strip() or type(error).__name__
        reason = without_password(told.splitlines()[0])[:300]
        if "disk is full" in reason:
            raise OSError(28, "No space left on device", uri) from None
        status = _status(error)
        kind = RegistryError if 400 <= status < 500 and status != 429 else UnreachableTrackerError
        raise kind(
            f"the tracking server at {uri} did not do what was asked: {reason}",
            fix=FIXES.get(
                status,
                "start it or correct MLFLOW_TRACKING_URI (unset, it is mlflow.db here), then run again; models and "
                "reports are safe on disk",
            ),
        ) from None


def _refusals() -> tuple[type[Exception], ...]:
    """What MLflow raises."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    return MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError


def _status(error: Exception) -> int:
    """The HTTP status that an error comes from; 0 where it comes from none."""
    if (status := getattr(error, "get_http_status_code", None)) is not None:
        return int(status())
    response = getattr(error, "response", None)
    return 0 if response is None else int(response.status_code)
