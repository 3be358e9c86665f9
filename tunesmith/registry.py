"""The experiment tracker and model registry. The only importer of mlflow.

MLFLOW_TRACKING_URI names the server; without it, everything is in mlflow.db and mlartifacts/ of this project. Nothing
is ever pickled or unpickled: a version's artifact is a model folder, and it is read as files.
"""

import getpass
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# A dead server must not hold anyone up: MLflow's own defaults retry for four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import requests
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from tunesmith import local_tracker, manifest
from tunesmith.errors import RegistryError

DATABASE, ARTIFACTS = Path("mlflow.db"), Path("mlartifacts")
KEY = "tunesmith.key"
"""Tag by which a run is found again, so that publishing twice makes one run."""
CHOSEN = "tunesmith.run"
"""Param of a run: the run that is published to, itself unless several were made at once."""
PATIENCE = "1800"
"""Seconds until an answer while files are copied: the server has each whole before it answers."""


@dataclass(frozen=True)
class Point:
    """A metric's value at a step; time in milliseconds. The same point published twice is one point."""

    name: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class Version:
    """A version of a registered model; ``run`` is the id of the run that holds its artifact."""

    number: str
    run: str
    tags: dict[str, str]


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
    return f"{local_tracker.SCHEME}{DATABASE.resolve()}"


def without_password(text: str) -> str:
    """A text that may hold the server's address, without the password that that may hold."""
    password = urlsplit(tracking_uri()).password
    return text.replace(f":{password}@", ":…@") if password else text


class Registry:
    """Runs and model versions of one experiment."""

    def __init__(self, experiment: str) -> None:
        """Raises RegistryError where the server does not answer."""
        self.uri = without_password(tracking_uri())
        with answering(self.uri), local_tracker.alone(self.uri):
            local_tracker.lay_out(tracking_uri(), lambda uri: MlflowClient(uri).search_experiments(max_results=1))
            self.client = MlflowClient(tracking_uri())
            found = self.client.get_experiment_by_name(experiment)
            self.experiment = found.experiment_id if found else self._create_experiment(experiment)
            here, there = str(ARTIFACTS.resolve()), str(found.artifact_location) if found else ""
            if self.uri == local_uri() and Path(there).name == ARTIFACTS.name and there != here:
                local_tracker.move_artifacts(self.uri, there, here)

    def _create_experiment(self, name: str) -> str:
        location = str(ARTIFACTS.resolve()) if self.uri.startswith("sqlite:") else None
        # Tells the UI what kind of work this is, which it would otherwise guess and ask about.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return str(self.client.create_experiment(name, artifact_location=location, tags=tags))
        except MlflowException as error:
            made = self.client.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or made is None:
                raise
            return str(made.experiment_id)  # somebody else was faster

    def run(self, key: str, name: str, started: int, tags: dict[str, str]) -> str:
        """The id of the run with this key, created where there is none; the same for all who ask at once."""
        with answering(self.uri):
            own, found = None, self._runs(key)
            if not found:
                tags = {KEY: key, "mlflow.user": who(), **tags}
                own = self.client.create_run(self.experiment, started, tags, name).info.run_id
                found = self._runs(key)
            chosen = self._agreed(found)
            if own not in (None, chosen):
                self.client.delete_run(own)
            elif any(run.info.run_id == chosen and run.info.lifecycle_stage == "deleted" for run in found):
                self.client.restore_run(chosen)
            return chosen

    def _runs(self, key: str) -> list[Run]:
        """Runs with this key, deleted ones too, in an order that is everybody's."""
        found = self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{key}'", ViewType.ALL)
        return sorted(found, key=lambda run: str(run.info.run_id))

    def _agreed(self, runs: list[Run]) -> str:
        """Of the runs that several made with one key, the one that all of them take.

        A param is written once. All see the run that was made first and pass the runs in one order, so what is written
        to it is what all carry on from there, and end with.
        """
        chosen = str(runs[0].info.run_id)
        for run in runs:
            chosen = run.data.params.get(CHOSEN) or self._write_once(str(run.info.run_id), CHOSEN, chosen)
        return chosen

    def _write_once(self, run: str, param: str, value: str) -> str:
        """What the param has now: ``value``, or what somebody else wrote before."""
        try:
            self.client.log_param(run, param, value)
        except MlflowException as error:
            written = self.client.get_run(run).data.params.get(param)
            if written is None:
                raise error
            return str(written)
        return value

    def log(
        self, run: str, *, points: Iterable[Point] = (), params: dict[str, Any] | None = None, tags: Any = None
    ) -> None:
        """Add metrics, params and tags to a run; what is there already stays one."""
        metrics = [Metric(point.name, point.value, point.time, point.step) for point in points]
        with answering(self.uri):
            for start in range(0, len(metrics), 1000):  # the server's limit for a batch
                self.client.log_batch(run, metrics=metrics[start : start + 1000])
            self.client.log_batch(
                run,
                params=[Param(name, str(value)) for name, value in (params or {}).items()],
                tags=[RunTag(name, str(value)) for name, value in (tags or {}).items()],
            )

    def log_dataset(self, run: str, name: str, digest: str, source: str, context: str, rows: int) -> None:
        """Name a data set as an input of the run; digest is its SHA-256, of which MLflow shows 36 characters."""
        dataset = Dataset(
            name=name,
            digest=digest[:36],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps({"num_rows": rows}),
        )
        with answering(self.uri):
            tags = [InputTag("mlflow.data.context", context)]
            self.client.log_inputs(run, [DatasetInput(dataset, tags)])

    def log_table(self, run: str, table: dict[str, list[Any]], file: str) -> None:
        """A table that the UI shows; written whole, where MLflow's own call would append to an earlier one."""
        rows = [list(row) for row in zip(*table.values(), strict=True)]
        with answering(self.uri):
            self.client.log_dict(run, {"columns": list(table), "data": rows}, file)
            self.client.set_tag(run, "mlflow.loggedArtifacts", json.dumps([{"path": file, "type": "table"}]))

    def upload(self, run: str, path: Path, folder: str | None = None) -> None:
        """Copy a file, or the content of a folder, to the run's artifacts."""
        with answering(self.uri), patient():
            if path.is_dir():
                self.client.log_artifacts(run, str(path), folder)
            else:
                self.client.log_artifact(run, str(path), folder)

    def finish(self, run: str, status: str, ended: int | None = None) -> None:
        """status: FINISHED, FAILED or KILLED."""
        with answering(self.uri):
            self.client.set_terminated(run, status, ended)

    def version(
        self, model: str, run: str, *, digest_tag: tuple[str, str], tags: dict[str, str], description: str
    ) -> str:
        """The number of the version of ``model`` made of this run's ``model`` artifact; made where there is none.

        digest_tag: the tag that tells whether the version is there already.
        """
        with answering(self.uri):
            if self._registered(model) is None:
                self._create_registered_model(model)
            name, digest = digest_tag
            for version in reversed(self.versions(model)):
                if version.run == run and version.tags.get(name) == digest:
                    self.client.update_model_version(model, version.number, description)
                    for tag, value in tags.items():  # it may have been evaluated again
                        self.client.set_model_version_tag(model, version.number, tag, value)
                    return version.number
            source = f"{self.client.get_run(run).info.artifact_uri}/model"
            made = self.client.create_model_version(
                model, source, run, {name: digest, **tags}, description=description, await_creation_for=0
            )
            # Numbers are given out one by one, so of several that did this at once all see which was first.
            twins = [v.number for v in self.versions(model) if v.run == run and v.tags.get(name) == digest]
            if str(made.version) != twins[-1]:
                self.remove_version(model, str(made.version))
            return twins[-1]

    def versions(self, model: str) -> list[Version]:
        """Every version of a registered model, newest first."""
        with answering(self.uri):
            found = self.client.search_model_versions(f"name = '{model}'")
        versions = [Version(str(v.version), str(v.run_id), dict(v.tags)) for v in found]
        return sorted(versions, key=lambda version: -int(version.number))

    def add_version(self, model: str, source: Version, tags: dict[str, str], description: str) -> str:
        """One more version of ``model``, in one transaction with its tags; its artifact is that of ``source``'s run."""
        with answering(self.uri):
            if self._registered(model) is None:
                self._create_registered_model(model)
            place = f"{self.client.get_run(source.run).info.artifact_uri}/model"
            made = self.client.create_model_version(
                model, place, source.run, tags, description=description, await_creation_for=0
            )
            return str(made.version)

    def remove_version(self, model: str, number: str) -> None:
        with answering(self.uri):
            self.client.delete_model_version(model, number)

    def download(self, run: str, path: str, into: Path) -> Path:
        """Copy a file or folder of a run's artifacts into a folder and return where it lies. Links are not followed."""
        with answering(self.uri), patient():
            place = self.client.get_run(run).info.artifact_uri
            if (parts := urlsplit(place)).scheme in ("", "file"):  # a copy would hide a link
                local = Path(unquote(parts.path)) / path
                for file in [local, *local.rglob("*")]:
                    manifest.no_link(file)
            return Path(self.client.download_artifacts(run, path, str(into)))

    def folders(self, run: str, path: str) -> list[str]:
        """Names of the folders in a folder of a run's artifacts."""
        with answering(self.uri):
            return [Path(entry.path).name for entry in self.client.list_artifacts(run, path) if entry.is_dir]

    def alias(self, model: str, alias: str) -> str | None:
        """The number of the version that an alias points to."""
        found = self._registered(model)
        number = found.aliases.get(alias) if found else None
        return None if number is None else str(number)

    def move_alias(self, model: str, alias: str, version: str) -> None:
        with answering(self.uri):
            self.client.set_registered_model_alias(model, alias, version)

    def _registered(self, model: str) -> RegisteredModel | None:
        with answering(self.uri):
            found = self.client.search_registered_models(f"name = '{model}'")
        return found[0] if found else None

    def _create_registered_model(self, model: str) -> None:
        try:
            self.client.create_registered_model(model, tags={"tunesmith": "yes"})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # somebody else was faster
                raise


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
    """Turn what MLflow raises into a RegistryError that says which server, why, and what to do."""
    try:
        yield
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = without_password(str(error).strip().splitlines()[0])[:300]
        if "disk is full" in reason:
            raise OSError(28, "No space left on device", uri) from None
        raise RegistryError(
            f"the tracking server at {uri} did not do what was asked: {reason}",
            fix=FIXES.get(
                _status(error),
                "start it or correct MLFLOW_TRACKING_URI (unset, it is mlflow.db here), then run again; models and "
                "reports are safe on disk",
            ),
        ) from None


def _status(error: Exception) -> int:
    """The HTTP status that an error comes from; 0 where it comes from none."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    response = getattr(error, "response", None)
    return 0 if response is None else int(response.status_code)
