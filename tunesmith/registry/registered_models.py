"""The registered models of the tracking server, with their versions, aliases and tags."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.registry.tracker import Tracker, raising_registry_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel


@dataclass(frozen=True)
class Version:
    """A version of a registered model. run: the id of the run that holds its artifact."""

    number: str
    run: str
    tags: dict[str, str]


class Registry(Tracker):
    """The registered models of the tracking server. Every method raises RegistryError where a request fails."""

    def __init__(self, experiment: str) -> None:
        """Connect. experiment: see `Tracker`. Raises RegistryError where the server does not answer."""
        super().__init__(experiment)
        if self.local is None:
            with raising_registry_errors(self.uri):
                self.client.search_registered_models(max_results=1)

    def versions(self, model: str) -> list[Version]:
        """List every version of a registered model, newest first."""
        if self.local is not None:
            return [Version(*row) for row in self.local.versions(model)]
        with raising_registry_errors(self.uri):
            matches = self.client.search_model_versions(f"name = '{model}'")
        versions = [Version(str(v.version), str(v.run_id), dict(v.tags)) for v in matches]
        return sorted(versions, key=lambda version: -int(version.number))

    def tags(self, model: str) -> dict[str, str] | None:
        """Return the tags of a registered model itself; None where no model has the name."""
        if self.local is not None:
            return self.local.tags(model)
        registered = self._find(model)
        return dict(registered.tags) if registered else None

    def alias(self, model: str, alias: str) -> str | None:
        """Return the number of the version that an alias points to; None where it is not set."""
        if self.local is not None:
            return self.local.alias(model, alias)
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

    def ensure_version(
        self, model: str, run: str, *, digest_tag: tuple[str, str], tags: dict[str, str], description: str
    ) -> str:
        """Return the number of the version of ``model`` with this run's ``model`` artifact; create it if missing.

        digest_tag: the tag, as name and value, that identifies the version among those of the run.
        """
        name, digest = digest_tag
        with raising_registry_errors(self.uri):
            for version in reversed(self.versions(model)):
                if version.run == run and version.tags.get(name) == digest:
                    self.client.update_model_version(model, version.number, description)
                    for tag, value in tags.items():  # it may have been evaluated again
                        self.client.set_model_version_tag(model, version.number, tag, value)
                    return version.number
            number = self._create_version(model, run, {name: digest, **tags}, description)
            # MLflow hands out numbers one by one, so several processes that create it at once agree on the first.
            twins = [v.number for v in self.versions(model) if v.run == run and v.tags.get(name) == digest]
            if number != twins[-1]:
                self.remove_version(model, number)
            return twins[-1]

    def add_version(self, model: str, source: Version, tags: dict[str, str], description: str) -> str:
        """Create a version of ``model`` with the artifact of ``source``'s run, in one transaction with its tags."""
        with raising_registry_errors(self.uri):
            return self._create_version(model, source.run, tags, description)

    def _create_version(self, model: str, run: str, tags: dict[str, str], description: str) -> str:
        source = f"{self.artifacts(run)}/model"
        version = self.client.create_model_version(
            model, source, run, tags, description=description, await_creation_for=0
        )
        return str(version.version)

    def remove_version(self, model: str, number: str) -> None:
        with raising_registry_errors(self.uri):
            self.client.delete_model_version(model, number)

    def move_alias(self, model: str, alias: str, version: str) -> None:
        with raising_registry_errors(self.uri):
            self.client.set_registered_model_alias(model, alias, version)
