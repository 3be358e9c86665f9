"""Registered models and their versions, aliases and tags."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.registry.tracker import Tracker, answering

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel


@dataclass(frozen=True)
class Version:
    """A version of a registered model; ``run`` is the id of the run that holds its artifact."""

    number: str
    run: str
    tags: dict[str, str]


class Registry(Tracker):
    """The registered models of the tracking server. What that does not do is a RegistryError."""

    def __init__(self, experiment: str) -> None:
        """experiment: see `Tracker`. Raises RegistryError where the server does not answer."""
        super().__init__(experiment)
        if self.local is None:
            with answering(self.uri):
                self.client.search_registered_models(max_results=1)

    def versions(self, model: str) -> list[Version]:
        """Every version of a registered model, newest first."""
        if self.local is not None:
            return [Version(*found) for found in self.local.versions(model)]
        with answering(self.uri):
            found = self.client.search_model_versions(f"name = '{model}'")
        versions = [Version(str(v.version), str(v.run_id), dict(v.tags)) for v in found]
        return sorted(versions, key=lambda version: -int(version.number))

    def tags(self, model: str) -> dict[str, str] | None:
        """Of a registered model itself; None where there is none of the name."""
        if self.local is not None:
            return self.local.tags(model)
        found = self._registered(model)
        return dict(found.tags) if found else None

    def alias(self, model: str, alias: str) -> str | None:
        """The number of the version that an alias points to."""
        if self.local is not None:
            return self.local.alias(model, alias)
        found = self._registered(model)
        number = found.aliases.get(alias) if found else None
        return None if number is None else str(number)

    def _registered(self, model: str) -> "RegisteredModel | None":
        with answering(self.uri):
            found = self.client.search_registered_models(f"name = '{model}'")
        return found[0] if found else None

    def create(self, model: str, tags: dict[str, str]) -> None:
        """Make a registered model, in one transaction with its tags, unless there is one of the name."""
        from mlflow.exceptions import MlflowException

        with answering(self.uri):
            try:
                self.client.create_registered_model(model, tags=tags)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def touch(self, model: str) -> None:
        """Change nothing of a registered model, as only those may who may add versions to it."""
        with answering(self.uri):
            self.client.update_registered_model(model, self.client.get_registered_model(model).description or "")

    def tag(self, model: str, name: str, value: str) -> None:
        """Tag a registered model itself."""
        with answering(self.uri):
            self.client.set_registered_model_tag(model, name, value)

    def version(
        self, model: str, run: str, *, digest_tag: tuple[str, str], tags: dict[str, str], description: str
    ) -> str:
        """The number of the version of ``model`` made of this run's ``model`` artifact; made where there is none.

        digest_tag: the tag that tells whether the version is there already.
        """
        name, digest = digest_tag
        with answering(self.uri):
            for version in reversed(self.versions(model)):
                if version.run == run and version.tags.get(name) == digest:
                    self.client.update_model_version(model, version.number, description)
                    for tag, value in tags.items():  # it may have been evaluated again
                        self.client.set_model_version_tag(model, version.number, tag, value)
                    return version.number
            made = self._create_version(model, run, {name: digest, **tags}, description)
            # Numbers are given out one by one, so of several that did this at once all see which was first.
            twins = [v.number for v in self.versions(model) if v.run == run and v.tags.get(name) == digest]
            if made != twins[-1]:
                self.remove_version(model, made)
            return twins[-1]

    def add_version(self, model: str, source: Version, tags: dict[str, str], description: str) -> str:
        """One more version of ``model``, in one transaction with its tags; its artifact is that of ``source``'s run."""
        with answering(self.uri):
            return self._create_version(model, source.run, tags, description)

    def _create_version(self, model: str, run: str, tags: dict[str, str], description: str) -> str:
        source = f"{self.artifacts(run)}/model"
        made = self.client.create_model_version(model, source, run, tags, description=description, await_creation_for=0)
        return str(made.version)

    def remove_version(self, model: str, number: str) -> None:
        with answering(self.uri):
            self.client.delete_model_version(model, number)

    def move_alias(self, model: str, alias: str, version: str) -> None:
        with answering(self.uri):
            self.client.set_registered_model_alias(model, alias, version)
