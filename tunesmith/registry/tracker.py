"""The connection to the MLflow tracking server: its address, its errors, and the artifacts of its runs.

MLFLOW_TRACKING_URI gives the address; without it, runs and models are in mlflow.db and mlartifacts/ of this project.
Nothing is ever pickled or unpickled: a version's artifact is a model folder, read as files. Importing mlflow takes a
second, so this module and registered_models.py import it on first use; runs.py imports it at once.
"""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.core import layout
from tunesmith.core.errors import RegistryError, UnreachableTrackerError
from tunesmith.core.params import Section
from tunesmith.registry import mlflow_sqlite

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A dead server must not block a command for long: MLflow's defaults retry for four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Artifacts pass through the server. By default MLflow sends clients to its object store, which they may not reach.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")

DATABASE, ARTIFACTS = Path("mlflow.db"), Path("mlartifacts")
TRANSFER_TIMEOUT = "1800"
"""Timeout of a request that copies files, in seconds: the server answers after it has received the whole file."""


class Names(Section):
    """The section `registry`: the experiment that runs go to, and the registered model that versions belong to."""

    experiment: str = "fine-tuning"
    model: str = "fine-tuned"


def user_name() -> str:
    """Return the name of the user, or the user id where a container gives no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def tracking_uri() -> str:
    """Return the address of the tracking server or database, which may hold a password."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri()


def local_uri() -> str:
    """Return the address of this project's own database."""
    return f"{mlflow_sqlite.SCHEME}{(layout.home() / DATABASE).resolve()}"


def artifacts_folder() -> Path:
    """The folder of the artifacts that belong to this project's own database."""
    return (layout.home() / ARTIFACTS).resolve()


def without_password(text: str) -> str:
    """Mask the password of the tracking address wherever it stands in a text."""
    password = urlsplit(tracking_uri()).password
    return text.replace(f":{password}@", ":…@") if password else text


class Tracker:
    """A connection, opened on first use. local: the database file, where it can be read without MLflow; else None."""

    def __init__(self, experiment: str) -> None:
        """experiment: the name of the experiment whose artifact paths are updated if this project was moved."""
        self.uri = without_password(tracking_uri())
        self.local = mlflow_sqlite.open_known_schema(tracking_uri())
        if self.local is not None and self.uri == local_uri():
            self.local.update_artifact_paths(experiment, artifacts_folder())

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client. Raises RegistryError where a database cannot be opened; a server is not contacted yet."""
        from mlflow import MlflowClient

        with raising_registry_errors(self.uri), mlflow_sqlite.creation_lock(self.uri):
            mlflow_sqlite.create(tracking_uri(), lambda uri: MlflowClient(uri).search_experiments(max_results=1))
            return MlflowClient(tracking_uri(), tracking_uri())

    def upload(self, run: str, path: Path, folder: str | None = None) -> None:
        """Copy a file, or the content of a folder, to a run's artifacts."""
        with raising_registry_errors(self.uri), transfer_timeout():
            if path.is_dir():
                self.client.log_artifacts(run, str(path), folder)
            else:
                self.client.log_artifact(run, str(path), folder)

    def download(self, run: str, path: str, into: Path) -> Path:
        """Copy a file or folder of a run's artifacts into a folder and return its path. Links are not followed."""
        if (here := mlflow_sqlite.local_folder(self.artifacts(run))) is not None:
            return mlflow_sqlite.copy_artifact(here, path, into)
        with raising_registry_errors(self.uri), transfer_timeout():
            return Path(self.client.download_artifacts(run, path, str(into)))

    def folders(self, run: str, path: str) -> list[str]:
        """List the names of the folders in a folder of a run's artifacts."""
        if (here := mlflow_sqlite.local_folder(self.artifacts(run))) is not None:
            return mlflow_sqlite.list_folders(here, path)
        with raising_registry_errors(self.uri):
            return [Path(entry.path).name for entry in self.client.list_artifacts(run, path) if entry.is_dir]

    def artifacts(self, run: str) -> str:
        """Return the address of a run's artifacts."""
        if self.local is not None:
            return self.local.artifacts(run)
        with raising_registry_errors(self.uri):
            return str(self.client.get_run(run).info.artifact_uri)


@contextmanager
def transfer_timeout() -> Iterator[None]:
    """Raise the request timeout to TRANSFER_TIMEOUT while files are copied."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ[name]
    os.environ[name] = TRANSFER_TIMEOUT
    try:
        yield
    finally:
        os.environ[name] = before


FIXES = {
    401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to your account there, then run again",
    403: "ask its owner or an administrator to let your account (MLFLOW_TRACKING_USERNAME) do this; a server that "
    "does not know its own name gets it by --allowed-hosts",
}
"""The fix for a refused request, by HTTP status."""


@contextmanager
def raising_registry_errors(uri: str) -> Iterator[None]:
    """Turn the errors of MLflow into a RegistryError that names the server, the reason and the fix.

    It is an UnreachableTrackerError where the server does not answer, fails (HTTP 5xx) or is overloaded (429).
    """
    try:
        yield
    except _mlflow_errors() as error:
        message = str(error).strip() or type(error).__name__
        reason = without_password(message.splitlines()[0])[:300]
        if "disk is full" in reason:
            raise OSError(28, "No space left on device", uri) from None
        status = _status(error)
        kind = RegistryError if 400 <= status < 500 and status != 429 else UnreachableTrackerError
        raise kind(
            f"the request to the tracking server at {uri} failed: {reason}",
            fix=FIXES.get(
                status,
                "start it or correct MLFLOW_TRACKING_URI (unset, it is mlflow.db here), then run again; models and "
                "reports are safe on disk",
            ),
        ) from None


def _mlflow_errors() -> tuple[type[Exception], ...]:
    """Return the types of the errors that MLflow's client raises, imported only where one was raised."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    return MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError


def _status(error: Exception) -> int:
    """Return the HTTP status behind an error; 0 where it has none."""
    if (status := getattr(error, "get_http_status_code", None)) is not None:
        return int(status())
    response = getattr(error, "response", None)
    return 0 if response is None else int(response.status_code)
