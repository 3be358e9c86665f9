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

# A dead server must not hold anyone up: MLflow's own defaults retry for four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import requests
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from tunesmith.errors import RegistryError

DATABASE, ARTIFACTS = Path("mlflow.db"), Path("mlartifacts")
KEY = "tunesmith.key"
"""Tag by which a run is found again, so that publishing twice makes one run."""


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
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE.resolve()}"


class Registry:
    """Runs and model versions of one experiment."""

    def __init__(self, experiment: str) -> None:
        """Raises RegistryError where the server does not answer."""
        self.uri = tracking_uri()
        with answering(self.uri):
            self.client = MlflowClient(self.uri)
            found = self.client.get_experiment_by_name(experiment)
            self.experiment = found.experiment_id if found else self._create_experiment(experiment)

    def _create_experiment(self, name: str) -> str:
        location = str(ARTIFACTS.resolve()) if self.uri.startswith("sqlite:") else None
        # Tells the UI what kind of work this is, which it would otherwise guess and ask about.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(name, artifact_location=location, tags=tags))

    def run(self, key: str, name: str, started: int, tags: dict[str, str]) -> str:
        """The id of the run with this key, created where there is none."""
        with answering(self.uri):
            found = self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
            if found:
                return str(found[0].info.run_id)
            tags = {KEY: key, "mlflow.user": who(), **tags}
            run = self.client.create_run(self.experiment, started, tags, name)
            return str(run.info.run_id)

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
        with answering(self.uri):
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
                self.client.create_registered_model(model, tags={"tunesmith": "yes"})
            name, digest = digest_tag
            for version in self.versions(model):
                if version.run == run and version.tags.get(name) == digest:
                    self.client.update_model_version(model, version.number, description)
                    for tag, value in tags.items():  # it may have been evaluated again
                        self.client.set_model_version_tag(model, version.number, tag, value)
                    return version.number
            source = f"{self.client.get_run(run).info.artifact_uri}/model"
            made = self.client.create_model_version(model, source, run, {name: digest, **tags}, description=description)
            return str(made.version)

    def versions(self, model: str) -> list[Version]:
        """Every version of a registered model, newest first."""
        with answering(self.uri):
            found = self.client.search_model_versions(f"name = '{model}'")
        versions = [Version(str(v.version), str(v.run_id), dict(v.tags)) for v in found]
        return sorted(versions, key=lambda version: -int(version.number))

    def download(self, version: Version, into: Path) -> Path:
        """Copy the version's artifact into a folder and return where it lies."""
        with answering(self.uri):
            return Path(self.client.download_artifacts(version.run, "model", str(into)))

    def alias(self, model: str, alias: str) -> str | None:
        """The number of the version that an alias points to."""
        found = self._registered(model)
        number = found.aliases.get(alias) if found else None
        return None if number is None else str(number)

    def move_alias(self, model: str, alias: str, version: str) -> None:
        with answering(self.uri):
            self.client.set_registered_model_alias(model, alias, version)

    def tags(self, model: str) -> dict[str, str]:
        """Tags of a registered model; {} where there is no such model."""
        found = self._registered(model)
        return dict(found.tags) if found else {}

    def _registered(self, model: str) -> RegisteredModel | None:
        with answering(self.uri):
            found = self.client.search_registered_models(f"name = '{model}'")
        return found[0] if found else None

    def tag(self, model: str, name: str, value: str) -> None:
        with answering(self.uri):
            self.client.set_registered_model_tag(model, name, value)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into a RegistryError that says which server, why, and what to do."""
    try:
        yield
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        if "disk is full" in reason:
            raise OSError(28, "No space left on device", uri) from None
        raise RegistryError(
            f"the tracking server at {uri} did not do what was asked: {reason}",
            fix="start it or correct MLFLOW_TRACKING_URI (unset, it is mlflow.db here), then run again; models and "
            "reports are safe on disk",
        ) from None
