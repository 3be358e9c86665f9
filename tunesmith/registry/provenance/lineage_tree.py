"""Where a model comes from, as a tree of plain nodes, each with a digest and with how it can be checked."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tunesmith.core.lineage import Lineage
from tunesmith.registry.ledger import Entry
from tunesmith.registry.registered_models import Version
from tunesmith.registry.versions import STATEMENT

Mark = Literal["verified", "differs", "unreachable"]


@dataclass(frozen=True)
class Files:
    """A model's files. place: its version, or its folder here; None where it is neither."""

    place: Version | Path | None
    digest: str
    lineage: Lineage | None


@dataclass(frozen=True)
class Base:
    source: str
    digest: str


@dataclass(frozen=True)
class Data:
    """A file of ready rows. cached: what DVC calls it, or the folder that it lay in."""

    path: str
    sha256: str
    cached: str | None


@dataclass(frozen=True)
class Code:
    commit: str | None
    clean: bool


@dataclass(frozen=True)
class Params:
    commit: str | None
    params: dict[str, Any]


@dataclass(frozen=True)
class Lock:
    commit: str | None
    sha256: str


@dataclass(frozen=True)
class Image:
    digest: str


@dataclass(frozen=True)
class Evidence:
    """What was signed about a version."""

    version: Version
    statement: dict[str, Any]


@dataclass(frozen=True)
class Promotions:
    """Those of a version, and what was edited in the whole history."""

    entries: tuple[Entry, ...]
    digest: str
    faults: tuple[str, ...]


Check = Files | Base | Data | Code | Params | Lock | Image | Evidence | Promotions


@dataclass(frozen=True)
class Proof:
    """What checking came to. says: what was checked; or what was expected and found; or why it is out of reach."""

    mark: Mark
    says: str


@dataclass(frozen=True)
class Node:
    """what: in words. digest: whole, in hex; None where the thing has none."""

    name: str
    what: str
    digest: str | None = None
    children: tuple["Node", ...] = ()
    check: Check | None = None
    proof: Proof | None = None

    def walk(self) -> Iterator["Node"]:
        """It and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Record:
    """What is known of a model. title: what it is called. lineage: None where its files are nowhere to be read.

    statement: what was signed about it, of that id; None where it is not registered. entries: its promotions. aliases:
    that point to it. faults: see `ledger.Chain`. parents: the trained models that it was made from.
    """

    name: str
    title: str
    place: Version | Path | None
    digest: str
    lineage: Lineage | None
    statement: dict[str, Any] | None = None
    entries: tuple[Entry, ...] = ()
    aliases: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    parents: tuple["Record", ...] = field(default=())


def tree(record: Record) -> Node:
    """The whole of it. Raises KeyError or TypeError where the lineage is none."""
    made = _made(record) if record.lineage is not None else ()
    judged = () if record.statement is None else (_evaluation(record), _promotion(record))
    what = record.title if record.lineage is None else f"{record.title}, made {record.lineage['created']}"
    return Node(record.name, what, record.digest, (*made, *judged), Files(record.place, record.digest, record.lineage))


def _made(record: Record) -> tuple[Node, ...]:
    assert record.lineage is not None
    origin, environment = record.lineage, record.lineage["environment"]
    commit, is_clean = origin["code"]["commit"], bool(origin["code"]["clean"])
    state = "no git checkout" if commit is None else "all committed" if is_clean else "with uncommitted changes"
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
            Params(commit, origin["params"]),
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
        check = Data(path, entry["sha256"], entry.get("dvc"))
        yield Node(path, f"{entry['rows']:,} rows", entry["sha256"], (), check)


def _evaluation(record: Record) -> Node:
    assert record.statement is not None
    assert isinstance(record.place, Version)
    said = record.statement
    files = tuple(Node(name, "", digest) for name, digest in said["files"].items())
    what = f"{said['outcome']}: {said['evidence']}"
    return Node("evaluation", what, record.place.tags.get(STATEMENT), files, Evidence(record.place, said))


def _promotion(record: Record) -> Node:
    moves = tuple(
        Node(entry.kind, f"{entry.alias}, {entry.when}, by {entry.who}: {entry.why}", entry.hash)
        for entry in record.entries
    )
    now = f"{', '.join(record.aliases)} now" if record.aliases else "once, no longer" if moves else "never promoted"
    edited = f"; the history was edited: {record.faults[0]}" if record.faults else ""
    check = Promotions(record.entries, record.digest, record.faults)
    last = record.entries[-1].hash if record.entries else None
    return Node("promotion", now + edited, last, moves, check if moves or edited else None)


def _digest(params: dict[str, Any]) -> str:
    """SHA-256, in hex, over the params as sorted JSON."""
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
