"""Runs of an MLflow experiment, idempotent: several processes may publish the same run, and nothing is duplicated."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core.errors import RegistryError
from tunesmith.registry.tracker import (
    DATABASE,
    Tracker,
    artifacts_folder,
    local_uri,
    raising_registry_errors,
    tracking_uri,
    user_name,
)  # first: sets what MLflow reads on import

# isort: split
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

DIGEST_LENGTH = 36
"""The characters of a data set's digest that MLflow keeps."""
KEY = "tunesmith.key"
"""The tag that identifies a run, so that publishing twice makes one run."""
CHOSEN = "tunesmith.run"
"""The param that names the run to publish to: the run itself, unless several were created at once."""


@dataclass(frozen=True)
class MetricPoint:
    """A metric's value at a step. MLflow keeps a point that is logged twice once."""

    name: str
    value: float
    time: int
    """Milliseconds since the epoch."""
    step: int
    dataset: tuple[str, str] | None = None
    """Name and digest of the data set that a metric of a logged model was measured on."""


class Experiment(Tracker):
    """An experiment of the tracking server, created if it does not exist."""

    creates_database = True

    def __init__(self, name: str) -> None:
        """Find or create the experiment.

        Raises RegistryError where the server does not answer, or this project was moved away from its artifacts.
        """
        super().__init__()
        with raising_registry_errors(self.uri):
            experiment = self.client.get_experiment_by_name(name)
            self.id = str(experiment.experiment_id) if experiment else self._create(name)
        if experiment and tracking_uri() == local_uri():
            self._check_not_moved(Path(experiment.artifact_location))

    def _check_not_moved(self, recorded: Path) -> None:
        """Raise RegistryError where this project's own database records its artifacts in another folder.

        MLflow records absolute paths and offers no way to change one. A copy would write to the first's artifacts.
        """
        here = artifacts_folder()
        if recorded.resolve() != here and recorded.name == here.name:
            was, now = recorded.parent, here.parent
            raise RegistryError(
                f"{self.uri} records its artifacts in {recorded}: this project was moved or copied from {was}",
                fix=f"after a move: `ln -s {now} {was}`, or move it back. In a copy, remove {DATABASE} and run "
                "`dvc repro --force --single-item register`: it gets a registry of its own",
            )

    def _create(self, name: str) -> str:
        location = str(artifacts_folder()) if self.uri.startswith("sqlite:") else None
        # The UI would otherwise guess the kind of work and ask the user.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return str(self.client.create_experiment(name, artifact_location=location, tags=tags))
        except MlflowException as error:
            experiment = self.client.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
                raise
            return str(experiment.experiment_id)  # another process created it first

    def run(self, key: str, name: str, started: int, tags: dict[str, str]) -> str:
        """Return the id of the run with this key, created if it does not exist; concurrent callers get the same run."""
        with raising_registry_errors(self.uri):
            own, runs = None, self._runs(key)
            if not runs:
                tags = {KEY: key, "mlflow.user": user_name(), **tags}
                own = self.client.create_run(self.id, started, tags, name).info.run_id
                runs = self._runs(key)
            chosen = self._agree_on_one(runs)
            if own not in (None, chosen):
                self.client.delete_run(own)
            elif any(run.info.run_id == chosen and run.info.lifecycle_stage == "deleted" for run in runs):
                self.client.restore_run(chosen)
            return chosen

    def find(self, key: str) -> str | None:
        """Return the id of the run with this key; None where there is none."""
        with raising_registry_errors(self.uri):
            runs = [run for run in self._runs(key) if run.info.lifecycle_stage == "active"]
            return self._agree_on_one(runs) if runs else None

    def abandon(self, key: str, model: str, *, delete: bool) -> None:
        """End the run of a killed training as KILLED where it has not ended, and ``delete`` it.

        Touches no run of another model and none that finished, or failed because its journal was refused.
        """
        with raising_registry_errors(self.uri):
            for run in self._runs(key):
                if run.info.lifecycle_stage != "active" or run.data.params.get("model", run.info.run_name) != model:
                    continue
                if run.info.status == "RUNNING":
                    self.client.set_terminated(run.info.run_id, "KILLED")
                if delete and run.info.status in ("RUNNING", "KILLED"):
                    self.client.delete_run(run.info.run_id)

    def _runs(self, key: str) -> list[Run]:
        """Return the runs with this key, including deleted ones, in the same order for every process."""
        runs = self.client.search_runs([self.id], f"tags.`{KEY}` = '{key}'", ViewType.ALL)
        return sorted(runs, key=lambda run: str(run.info.run_id))

    def _agree_on_one(self, runs: list[Run]) -> str:
        """Return the run that all processes agree on, of those that several created with one key.

        MLflow writes a param once and never overwrites it. All processes see the run that was created first and visit
        the runs in one order, so they all read its param and end with the same run.
        """
        chosen = str(runs[0].info.run_id)
        for run in runs:
            chosen = run.data.params.get(CHOSEN) or self.write_once(str(run.info.run_id), CHOSEN, chosen)
        return chosen

    def log(
        self,
        run: str,
        *,
        points: Iterable[MetricPoint] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
        model: str | None = None,
    ) -> None:
        """Add metrics, params and tags to a run; logging the same again changes nothing.

        model: the id of a logged model that gets the metrics too.
        """
        metrics = [
            Metric(point.name, point.value, point.time, point.step, model, name, digest, run)
            for point in points
            for name, digest in [point.dataset or (None, None)]
        ]
        with raising_registry_errors(self.uri):
            for start in range(0, len(metrics), 1000):  # the server's limit on a batch
                self.client.log_batch(run, metrics=metrics[start : start + 1000])
            self.client.log_batch(
                run,
                params=[Param(name, str(value)) for name, value in (params or {}).items()],
                tags=[RunTag(name, str(value)) for name, value in (tags or {}).items()],
            )

    def log_dataset(self, run: str, name: str, digest: str, source: str, context: str, rows: int) -> None:
        """Record a data set as an input of the run. digest: its SHA-256 in hex."""
        dataset = Dataset(
            name=name,
            digest=digest[:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps({"num_rows": rows}),
        )
        with raising_registry_errors(self.uri):
            tags = [InputTag("mlflow.data.context", context)]
            self.client.log_inputs(run, [DatasetInput(dataset, tags)])

    def log_table(self, run: str, table: Mapping[str, Sequence[object]], file: str) -> None:
        """Write a table for the UI, replacing an earlier one; MLflow's own call would append to it."""
        rows = [list(row) for row in zip(*table.values(), strict=True)]
        with raising_registry_errors(self.uri):
            self.client.log_dict(run, {"columns": list(table), "data": rows}, file)
            self.client.set_tag(run, "mlflow.loggedArtifacts", json.dumps([{"path": file, "type": "table"}]))

    def finish(self, run: str, status: str, ended: int | None = None) -> None:
        """End a run. status: FINISHED, FAILED or KILLED. ended: milliseconds since 1970; by default now."""
        with raising_registry_errors(self.uri):
            self.client.set_terminated(run, status, ended)
