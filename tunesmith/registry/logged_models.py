"""Logged models: what MLflow's Models tab shows, and what `mlflow.transformers.load_model` opens.

Files are uploaded as they lie on disk, so no weights are loaded and nothing is pickled.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from tunesmith.registry.tracker import Tracker, beside_others, raising_registry_errors, transfer_timeout

DIGEST_TAG = "tunesmith.digest"
"""The tag of a logged model and of a version with the digest of the model folder's manifest."""
MODEL_FOLDER = "model"
"""The place of the model folder among the files of a logged model; around it are those that MLflow loads it by."""
LOGGED = "tunesmith.logged_model"
"""The params of a run that name its logged models: MLflow writes a param once, so all processes agree on one."""
VERSIONS_TAG = "mlflow.modelVersions"
"""MLflow's tag with the versions that a logged model is registered as; its server sets it, its client does not."""


@dataclass(frozen=True)
class LoggedModel:
    """A logged model."""

    id: str
    run: str
    """The id of the run that made it."""
    address: str
    """The address of its files."""
    created: int
    """The time of its creation, in milliseconds since the epoch."""


class LoggedModels(Tracker):
    """The logged models of the tracking server. Every method raises RegistryError where a request fails."""

    def ensure_logged(self, run: str, name: str, digest: str) -> LoggedModel:
        """Return the logged model of a run with this digest, created if missing; concurrent callers get the same."""
        from mlflow.exceptions import MlflowException

        with raising_registry_errors(self.uri):
            params = self.client.get_run(run).data.params
            for number in itertools.count():
                param = f"{LOGGED}.{digest[:12]}.{number}"
                model = params.get(param) or self._agree_on_one(run, name, digest, param)
                try:
                    logged = self.client.get_logged_model(model)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        raise
                    continue  # somebody deleted it
                return LoggedModel(model, run, str(logged.artifact_location), int(logged.creation_timestamp))
            raise AssertionError("count() does not end")

    def _agree_on_one(self, run: str, name: str, digest: str, param: str) -> str:
        source = self.client.get_run(run)
        left = self.client.search_logged_models(
            [source.info.experiment_id], f"name = '{name}' AND tags.`{DIGEST_TAG}` = '{digest}'"
        )
        own = next((model.model_id for model in left if model.source_run_id == run), None)  # of a killed process
        if own is None:
            params = {key: value for key, value in source.data.params.items() if not key.startswith("tunesmith.")}
            own = self.client.create_logged_model(
                source.info.experiment_id, name, run, {DIGEST_TAG: digest}, params, model_type="LLM"
            ).model_id
        chosen = self.write_once(run, param, own)
        if chosen != own:
            self.client.delete_logged_model(own)
        return chosen

    def upload_model(self, logged: LoggedModel, folder: Path, place: str | None = None) -> None:
        """Copy the content of a folder to the files of a logged model."""
        with raising_registry_errors(self.uri), transfer_timeout():
            beside_others(lambda: self.client.log_model_artifacts(logged.id, str(folder), place))

    def finish_logged(self, logged: LoggedModel, registered: tuple[str, str]) -> None:
        """Mark a logged model as ready, as its run's output, and as the ``registered`` name and version."""
        from mlflow.entities import LoggedModelOutput

        with raising_registry_errors(self.uri):
            outputs = self.client.get_run(logged.run).outputs
            if logged.id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
                self.client.log_outputs(logged.run, [LoggedModelOutput(logged.id, step=0)])
            name, version = registered
            tag = json.dumps([{"name": name, "version": version}])
            self.client.set_logged_model_tags(logged.id, {VERSIONS_TAG: tag})
            self.client.finalize_logged_model(logged.id, "READY")
