"""Runs of one experiment: published to as often as one likes, by several at once, each thing there once."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tunesmith.registry.tracker import ARTIFACTS, Tracker, answering, who  # first: what MLflow reads as it is imported

# isort: split
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

KEY = "tunesmith.key"
"""Tag by which a run is found again, so that publishing twice makes one run."""
CHOSEN = "tunesmith.run"
"""Param of a run: the run that is published to, itself unless several were made at once."""


@dataclass(frozen=True)
class Point:
    """A metric's value at a step; time in milliseconds. The same point published twice is one point."""

    name: str
    value: float
    time: int
    step: int


class Experiment(Tracker):
    """An experiment of the tracking server, made where there is none."""

    def __init__(self, name: str) -> None:
        """Raises RegistryError where the server does not answer."""
        super().__init__(name)
        with answering(self.uri):
            found = self.client.get_experiment_by_name(name)
            self.id = str(found.experiment_id) if found else self._create(name)

    def _create(self, name: str) -> str:
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
                own = self.client.create_run(self.id, started, tags, name).info.run_id
                found = self._runs(key)
            chosen = self._agreed(found)
            if own not in (None, chosen):
                self.client.delete_run(own)
            elif any(run.info.run_id == chosen and run.info.lifecycle_stage == "deleted" for run in found):
                self.client.restore_run(chosen)
            return chosen

    def _runs(self, key: str) -> list[Run]:
        """Runs with this key, deleted ones too, in an order that is everybody's."""
        found = self.client.search_runs([self.id], f"tags.`{KEY}` = '{key}'", ViewType.ALL)
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

    def finish(self, run: str, status: str, ended: int | None = None) -> None:
        """status: FINISHED, FAILED or KILLED."""
        with answering(self.uri):
            self.client.set_terminated(run, status, ended)
