"""The lineage of a model as a tree of plain nodes, each with a digest and the check that verifies it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.core.lineage import Lineage
from tunesmith.registry.registered_models import Version
from tunesmith.registry.trust.chain import Entry
from tunesmith.registry.versions import STATEMENT_TAG, Claims

Mark = Literal["verified", "differs", "unreachable"]


@dataclass(frozen=True)
class Files:
    """A check of a model's files. place: its registered version or its folder in models/; None where it has neither."""

    place: Version | Path | None
    digest: str
    lineage: Lineage | None


@dataclass(frozen=True)
class Base:
    """A check of the base model."""

    source: str
    digest: str


@dataclass(frozen=True)
class Data:
    """A check of a file of ready rows. cached: DVC's hash of the file or of the folder that held it. images: the number
    of images that its rows name, which are checked where the rows are.
    """

    path: str
    sha256: str
    cached: str | None
    images: int = 0


@dataclass(frozen=True)
class Code:
    """A check of the commit. clean: whether nothing was uncommitted."""

    commit: str | None
    clean: bool


@dataclass(frozen=True)
class Params:
    """A check of the effective params against params.yaml: as it was recorded, else as the commit has it."""

    commit: str | None
    params: dict[str, dict[str, object]]
    document: dict[str, object] | None = None


@dataclass(frozen=True)
class Lock:
    """A check of the lock of libraries at the commit."""

    commit: str | None
    sha256: str


@dataclass(frozen=True)
class Image:
    """A check of the container image."""

    digest: str


@dataclass(frozen=True)
class Evidence:
    """A check of the signed statement about a version."""

    version: Version
    claims: Claims


@dataclass(frozen=True)
class Promotions:
    """A check of a version's promotions. faults: those of the whole history (`trust.chain.Chain`)."""

    entries: tuple[Entry, ...]
    digest: str
    faults: tuple[str, ...]


Check = Files | Base | Data | Code | Params | Lock | Image | Evidence | Promotions


@dataclass(frozen=True)
class Proof:
    """The result of a check. says: what was checked; or expected and actual value; or why it cannot be reached."""

    mark: Mark
    says: str


@dataclass(frozen=True)
class Node:
    """A part of a model's lineage. what: a description. digest: in hex, at full length; None where it has none."""

    name: str
    what: str
    digest: str | None = None
    children: tuple["Node", ...] = ()
    check: Check | None = None
    proof: Proof | None = None

    def walk(self) -> Iterator["Node"]:
        """Yield this node and all nodes below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Record:
    """The recorded facts about a model, not verified yet."""

    name: str
    title: str
    """Its version, or its folder."""
    place: Version | Path | None
    digest: str
    lineage: Lineage | None
    """None where its files cannot be read."""
    claims: Claims | None = None
    """The content of the signed statement; None where the model is not registered."""
    entries: tuple[Entry, ...] = ()
    """Its promotions and rollbacks."""
    aliases: tuple[str, ...] = ()
    """The aliases that point to it."""
    faults: tuple[str, ...] = ()
    """The faults of the whole history (`trust.chain.Chain`)."""
    parents: tuple["Record", ...] = ()
    """The trained models that it was made from."""


def tree(record: Record) -> Node:
    """Return the tree of a record. Raises KeyError or TypeError where its lineage or claims lack something."""
    origin = _origin_nodes(record) if record.lineage is not None else ()
    registered = () if record.claims is None else (_evaluation(record), _promotion(record))
    what = record.title if record.lineage is None else f"{record.title}, made {record.lineage['created']}"
    return Node(
        record.name, what, record.digest, (*origin, *registered), Files(record.place, record.digest, record.lineage)
    )


def _origin_nodes(record: Record) -> tuple[Node, ...]:
    assert record.lineage is not None
    origin, environment = record.lineage, record.lineage["environment"]
    commit, is_clean = origin["code"]["commit"], bool(origin["code"]["clean"])
    state = "no git checkout" if commit is None else "all committed" if is_clean else "with uncommitted changes"
    if (package := origin["code"].get("package")) is not None:
        state += f"; by tunesmith {package['version']}, installed"
    libraries = ", ".join(f"{name} {version}" for name, version in environment["libraries"].items())
    base, lock, image = origin["base"], environment["lock_sha256"], environment["image_digest"]
    seed = f"; seed {origin['seed']}" if "seed" in origin else ""
    hardware = ", ".join(str(value) for value in origin["hardware"].values())
    parents = tuple(tree(parent) for parent in record.parents)
    return (
        Node(
            "base model", base["source"].split(" sha256:")[0], base["digest"], (), Base(base["source"], base["digest"])
        ),
        Node("data", f"{len(origin['inputs'])} files", None, tuple(_data(origin))),
        Node("code", state, commit, (), Code(commit, is_clean)),
        Node(
            "params",
            ", ".join(origin["params"]) + seed,
            _digest(origin["params"]),
            (),
            Params(commit, origin["params"], origin.get("document")),
        ),
        Node("lock", f"Python {environment['python']}, {libraries}", lock, (), Lock(commit, lock) if lock else None),
        Node(
            "image", "a container's" if image else "none: made on the host", image, (), Image(image) if image else None
        ),
        Node("hardware", hardware),
        Node("parent models", "" if parents else "none: made from the base", None, parents),
    )


def _data(origin: Lineage) -> Iterator[Node]:
    for path, entry in origin["inputs"].items():
        check = Data(path, entry["sha256"], entry.get("dvc"), entry.get("images", 0))
        images = f" with {entry['images']:,} images" if "images" in entry else ""
        yield Node(path, f"{entry['rows']:,} rows{images}", entry["sha256"], (), check)


def _evaluation(record: Record) -> Node:
    assert record.claims is not None
    assert isinstance(record.place, Version)
    claims = record.claims
    files = tuple(Node(name, "", digest) for name, digest in claims["files"].items())
    what = f"{claims['outcome']}: {claims['evidence']}"
    return Node("evaluation", what, record.place.tags.get(STATEMENT_TAG), files, Evidence(record.place, claims))


def _promotion(record: Record) -> Node:
    moves = tuple(
        Node(entry.kind, f"{entry.alias}, {entry.when}, by {entry.who}: {entry.why}", entry.hash)
        for entry in record.entries
    )
    status = f"{', '.join(record.aliases)} now" if record.aliases else "once, no longer" if moves else "never promoted"
    edited = f"; the history was edited: {record.faults[0]}" if record.faults else ""
    check = Promotions(record.entries, record.digest, record.faults)
    last = record.entries[-1].hash if record.entries else None
    return Node("promotion", status + edited, last, moves, check if moves or edited else None)


def _digest(params: dict[str, dict[str, object]]) -> str:
    """Return the SHA-256, in hex, of the params as sorted JSON."""
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
