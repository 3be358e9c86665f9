"""The connection to the MLflow tracking server: its address, its errors, and the artifacts of its runs.

MLFLOW_TRACKING_URI gives the address; without it, runs and models are in mlflow.db and mlartifacts/ of this project.
Nothing is ever pickled or unpickled: a version's artifact is a model folder, read as files. Importing mlflow takes a
second, so this module and registered_models.py import it on first use; runs.py imports it at once.
"""

import fcntl
import gc
import getpass
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunesmith.core import layout
from tunesmith.core.errors import IntegrityError, RegistryError, UnreachableTrackerError
from tunesmith.core.params import Section

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

SCHEME = "sqlite:///"
DATABASE, ARTIFACTS = Path("mlflow.db"), Path("mlartifacts")
TRANSFER_TIMEOUT = "1800"
"""Timeout of a request that copies files, in seconds: the server answers after it has received the whole file."""
RACES = 10
"""How often another process may be the first to make a folder of one upload."""


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
    return f"{SCHEME}{(layout.home() / DATABASE).resolve()}"


def artifacts_folder() -> Path:
    """The folder of the artifacts that belong to this project's own database."""
    return (layout.home() / ARTIFACTS).resolve()


def without_password(text: str) -> str:
    """Mask the password of the tracking address wherever it stands in a text."""
    password = urlsplit(tracking_uri()).password
    return text.replace(f":{password}@", ":…@") if password else text


class Tracker:
    """A connection, opened on first use."""

    creates_database = False
    """Whether a missing SQLite database is created; what only reads finds none."""

    def __init__(self) -> None:
        self.uri = without_password(tracking_uri())

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client. Raises RegistryError where a database cannot be opened; a server is not contacted yet."""
        from mlflow import MlflowClient

        path = Path(tracking_uri().removeprefix(SCHEME))
        if not self.creates_database and tracking_uri().startswith(SCHEME) and not path.exists():
            raise UnreachableTrackerError(
                f"{path}: there is no such database, so nothing is registered here yet",
                fix="`dvc repro` registers the models of this project; a team's server is named by MLFLOW_TRACKING_URI",
            )
        with raising_registry_errors(self.uri):
            _create_database(tracking_uri(), lambda uri: MlflowClient(uri).search_experiments(max_results=1))
            return MlflowClient(tracking_uri(), tracking_uri())

    def upload(self, run: str, path: Path, folder: str | None = None) -> None:
        """Copy a file, or the content of a folder, to a run's artifacts."""
        send = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        with raising_registry_errors(self.uri), transfer_timeout():
            beside_others(lambda: send(run, str(path), folder))

    def download(self, address: str, into: Path) -> Path:
        """Copy a file or folder of artifacts, at an address that the tracker names, into a folder; return its path."""
        from mlflow.artifacts import download_artifacts

        with raising_registry_errors(self.uri), transfer_timeout():
            try:
                return Path(download_artifacts(address, dst_path=str(into), tracking_uri=tracking_uri()))
            except (shutil.SpecialFileError, shutil.Error) as error:
                if "No space left" in str(error):
                    raise OSError(28, "No space left on device", str(into)) from None
                raise IntegrityError(
                    f"{address}: cannot be copied: {str(error)[:300]}", fix="find out who changed it there"
                ) from None

    def folders(self, run: str, path: str) -> list[str]:
        """List the names of the folders in a folder of a run's artifacts."""
        with raising_registry_errors(self.uri):
            return [Path(entry.path).name for entry in self.client.list_artifacts(run, path) if entry.is_dir]

    def write_once(self, run: str, param: str, value: str) -> str:
        """Write a param of a run unless another process wrote it; return its value."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_param(run, param, value)
        except MlflowException as error:
            written = self.client.get_run(run).data.params.get(param)
            if written is None:
                raise error
            return str(written)
        return value

    def artifacts(self, run: str) -> str:
        """Return the address of a run's artifacts."""
        with raising_registry_errors(self.uri):
            return str(self.client.get_run(run).info.artifact_uri)


def _create_database(uri: str, make_tables: Callable[[str], object]) -> None:
    """Create an SQLite database if it is missing: ``make_tables`` fills a file beside it, which is then renamed.

    MLflow cannot continue from tables that a kill left half made. A lock keeps other processes out meanwhile.
    """
    path = Path(uri.removeprefix(SCHEME))
    if not uri.startswith(SCHEME) or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            partial = path.with_name(f"{path.name}.partial")
            partial.unlink(missing_ok=True)
            make_tables(f"{SCHEME}{partial}")
            partial.rename(path)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's search for reference cycles while many records are read, all of which stay: it would walk them
    again and again, which takes as long as reading them.
    """
    was_active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_active:
            gc.enable()


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


def beside_others(send: Callable[[], object]) -> None:
    """Send files, and again where another process made one of their folders at the same moment.

    In a folder of artifacts, MLflow makes a folder that it did not find, and fails where it is there by then.
    """
    for _ in range(RACES):
        with suppress(FileExistsError):
            send()
            return
    send()


FIXES = {
    401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to your account there, then run again",
    403: "ask its owner or an administrator to let your account (MLFLOW_TRACKING_USERNAME) do this; a server that "
    "does not know its own name gets it by --allowed-hosts",
}
"""The fix for a refused request, by HTTP status."""


def download_folder(beside: Path | None = None) -> TemporaryDirectory[str]:
    """A temporary folder for what is downloaded, within ``beside`` or where temporary files go.

    Where a download fails, MLflow's threads may still write to the folder while it is removed, and what they write
    then must not hide the reason of the failure.
    """
    return TemporaryDirectory(dir=beside, ignore_cleanup_errors=True)


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
