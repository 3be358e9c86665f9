"""The registered models of the tracking server, with their versions, aliases and tags."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.registry.logged_models import MODEL_FOLDER, LoggedModel, LoggedModels
from tunesmith.registry.tracker import collector_paused, raising_registry_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel


PAGE = 10_000
"""Versions that a request asks for."""


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    number: str
    run: str
    """The id of the run that made the model and holds the evidence about it."""
    tags: dict[str, str]
    source: str
    """The address of the logged model's files; in versions of earlier releases, of the model folder alone."""

    @property
    def model(self) -> str:
        """The address of the model folder."""
        return self.source if self.source.endswith(f"/{MODEL_FOLDER}") else f"{self.source}/{MODEL_FOLDER}"


class Registry(LoggedModels):
    """The registered models of the tracking server. Every method raises RegistryError where a request fails."""

    def __init__(self) -> None:
        """Connect. Raises RegistryError where the server does not answer."""
        super().__init__()
        with raising_registry_errors(self.uri):
            self.client.search_registered_models(max_results=1)

    def versions(self, model: str) -> list[Version]:
        """List every version of a registered model, newest first."""
        matches: list[ModelVersion] = []
        token = None
        with raising_registry_errors(self.uri), collector_paused():
            while token is not None or not matches:
                page = self.client.search_model_versions(f"name = '{model}'", max_results=PAGE, page_token=token)
                matches += page
                if not page or not (token := page.token):
                    break
        versions = [Version(str(v.version), str(v.run_id), dict(v.tags), str(v.source)) for v in matches]
        return sorted(versions, key=lambda version: -int(version.number))

    def tags(self, model: str) -> dict[str, str] | None:
        """Return the tags of a registered model itself; None where no model has the name."""
        registered = self._find(model)
        return dict(registered.tags) if registered else None

    def alias(self, model: str, alias: str) -> str | None:
        """Return the number of the version that an alias points to; None where it is not set."""
        registered = self._find(model)
        number = registered.aliases.get(alias) if registered else None
        return None if number is None else str(number)

    def _find(self, model: str) -> "RegisteredModel | None":
        with raising_registry_errors(self.uri):
            matches = self.client.search_registered_models(f"name = '{model}'")
        return matches[0] if matches else None

    def create(self, model: str, tags: dict[str, str]) -> None:
        """Create a registered model, in one transaction with its tags, unless the name is taken."""
        from mlflow.exceptions import MlflowException

        with raising_registry_errors(self.uri):
            try:
                self.client.create_registered_model(model, tags=tags)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def check_may_change(self, model: str) -> None:
        """Raise RegistryError unless this account may change the registered model, and so add versions to it.

        Writes the model's description back unchanged.
        """
        with raising_registry_errors(self.uri):
            self.client.update_registered_model(model, self.client.get_registered_model(model).description or "")

    def tag(self, model: str, name: str, value: str) -> None:
        """Tag a registered model itself."""
        with raising_registry_errors(self.uri):
            self.client.set_registered_model_tag(model, name, value)

    def ensure_version(self, model: str, logged: LoggedModel, tags: dict[str, str], description: str) -> str:
        """Return the number of the version of ``model`` that is this logged model; create it if missing."""
        with raising_registry_errors(self.uri):
            for version in reversed(self.versions(model)):
                if version.source == logged.address:
                    self.client.update_model_version(model, version.number, description)
                    for tag, value in tags.items():  # it may have been evaluated again
                        self.client.set_model_version_tag(model, version.number, tag, value)
                    return version.number
            number = self._create_version(model, logged.address, logged.run, tags, description, model_id=logged.id)
            # MLflow hands out numbers one by one, so several processes that create it at once agree on the first.
            twins = [version.number for version in self.versions(model) if version.source == logged.address]
            if number != twins[-1]:
                self.remove_version(model, number)
            return twins[-1]

    def add_version(self, model: str, source: Version, tags: dict[str, str], description: str) -> str:
        """Create a version of ``model`` that points to the run of ``source``, in one transaction with its tags."""
        with raising_registry_errors(self.uri):
            return self._create_version(model, self.artifacts(source.run), source.run, tags, description)

    def _create_version(
        self, model: str, address: str, run: str, tags: dict[str, str], description: str, model_id: str | None = None
    ) -> str:
        version = self.client.create_model_version(
            model, address, run, tags, description=description, await_creation_for=0, model_id=model_id
        )
        return str(version.version)

    def tag_version(self, model: str, number: str, name: str, value: str) -> None:
        """Tag a version."""
        with raising_registry_errors(self.uri):
            self.client.set_model_version_tag(model, number, name, value)

    def rename(self, model: str, name: str) -> None:
        """Give a registered model another name."""
        with raising_registry_errors(self.uri):
            self.client.rename_registered_model(model, name)

    def remove_version(self, model: str, number: str) -> None:
        with raising_registry_errors(self.uri):
            self.client.delete_model_version(model, number)

    def move_alias(self, model: str, alias: str, version: str) -> None:
        with raising_registry_errors(self.uri):
            self.client.set_registered_model_alias(model, alias, version)
