"""Check every digest of an ancestry that can be reached from here: verified, differs, or out of reach, and why."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tunesmith.core import dvc_project, git, lineage, manifest
from tunesmith.core.errors import IntegrityError, LineageError, TunesmithError
from tunesmith.registry.provenance.lineage_tree import (
    Base,
    Check,
    Code,
    Data,
    Evidence,
    Files,
    Image,
    Lock,
    Node,
    Params,
    Promotions,
    Proof,
)
from tunesmith.registry.registered_models import Version
from tunesmith.registry.versions import Fetched

BASE = Path("models/base")


@dataclass(frozen=True)
class Reach:
    """Where to look. root: of this project. fetch: a version's files, verified. signed: what was signed about it, by
    whom, verified; both raise as `versions.fetch` does."""

    root: Path
    fetch: Callable[[Version], Fetched]
    signed: Callable[[Version], tuple[dict[str, Any], str]]


def verified(node: Node, reach: Reach) -> Node:
    """The same tree, with a proof at every node that has something to check."""
    children = tuple(verified(child, reach) for child in node.children)
    proof = None if node.check is None else _prove(node.check, reach)
    return replace(node, children=children, proof=proof)


def _prove(check: Check, reach: Reach) -> Proof:
    try:
        return _check(check, reach)
    except IntegrityError as error:
        return Proof("differs", error.reason)
    except TunesmithError as error:
        return Proof("unreachable", error.reason)
    except OSError as error:
        return Proof("unreachable", str(error))


def _check(check: Check, reach: Reach) -> Proof:
    match check:
        case Files():
            return _files(check, reach)
        case Base():
            return _base(check, reach.root / BASE)
        case Data():
            return _data(check, reach.root)
        case Code(commit=None) | Params(commit=None) | Lock(commit=None):
            return Proof("unreachable", "it was not made in a git checkout")
        case Code():
            return _code(check, reach.root)
        case Params():
            return _params(check, reach.root)
        case Lock():
            found = hashlib.sha256(_at(reach.root, str(check.commit), str(lineage.LOCK))).hexdigest()
            return equal(f"{lineage.LOCK} at the commit", check.sha256, found)
        case Image():
            return _image(check.digest)
        case Evidence():
            statement, signer = reach.signed(check.version)
            same = statement == check.statement
            return Proof("verified" if same else "differs", f"every file; signed by {signer[:12]}")
        case Promotions():
            return _promotions(check)


def equal(what: str, expected: str, found: str) -> Proof:
    if expected == found:
        return Proof("verified", what)
    return Proof("differs", f"{what}: expected {expected[:12]}, found {found[:12]}")


def _files(check: Files, reach: Reach) -> Proof:
    if check.place is None:
        return Proof("unreachable", "neither in models/ nor registered")
    if isinstance(check.place, Version):
        fetched = reach.fetch(check.place)
        folder, where = fetched.folder, f"signed by {fetched.signer[:12]}"
    else:
        folder, where = check.place, f"in {check.place.relative_to(reach.root)}"
    found = manifest.verify(folder)
    if lineage.read(folder) != check.lineage:
        return Proof("differs", f"{lineage.NAME}: not what was read before")
    size = f"{len(found.files)} files, every byte"
    return equal(f"{size}, {where}", check.digest, found.digest)


def _base(check: Base, folder: Path) -> Proof:
    if not folder.exists():
        return Proof("unreachable", f"no {BASE} here: `dvc repro fetch_base` makes it")
    found = manifest.verify(folder).digest
    source = lineage.read(folder).get("source")
    if found != check.digest and source != check.source:
        return Proof("unreachable", f"{BASE} here is another: {source}")
    return equal(f"{BASE}, every byte", check.digest, found)


def _data(check: Data, root: Path) -> Proof:
    """Here, or in the cache. What is here by now may be of another data set: that is no fault of the model's."""
    here, path = root / check.path, Path(check.path)
    if here.is_file() and manifest.file_digest(here) == check.sha256:
        return Proof("verified", "here")
    kept = dvc_project.cached(root, check.cached, path) if check.cached else None
    if kept is not None:
        return equal("in DVC's cache", check.sha256, manifest.file_digest(kept))
    today = lineage.dvc_hash(path, root / "dvc.lock").get("dvc")
    if here.is_file() and (today == check.cached or today is None):
        return equal("here", check.sha256, manifest.file_digest(here))
    return Proof("unreachable", "neither here nor in DVC's cache: `dvc fetch` gets what a remote has")


def _code(check: Code, root: Path) -> Proof:
    commit = str(check.commit)
    if not git.knows(root, commit):
        return Proof("unreachable", "this repository has no such commit: `git fetch --all` gets what was pushed")
    if not check.clean:
        return Proof("unreachable", "the commit is here, but there were uncommitted changes, which nothing recorded")
    return Proof("verified", "the commit is here")


def _params(check: Params, root: Path) -> Proof:
    try:
        stated = yaml.safe_load(_at(root, str(check.commit), "params.yaml")) or {}
        other = sorted(name for name, value in check.params.items() if not same(value, stated.get(name)))
    except (yaml.YAMLError, AttributeError, UnicodeDecodeError):
        return Proof("differs", "params.yaml at the commit is not readable")
    if other:
        return Proof("differs", f"params.yaml at the commit says otherwise: {', '.join(other)}")
    return Proof("verified", "params.yaml at the commit gives them")


def same(recorded: Any, stated: Any) -> bool:
    """Whether params are what a file states, which may write a number as a text (YAML reads 1e-3 so)."""
    if isinstance(recorded, dict) and isinstance(stated, dict):
        return recorded.keys() == stated.keys() and all(same(recorded[key], stated[key]) for key in recorded)
    if isinstance(recorded, list) and isinstance(stated, list):
        return len(recorded) == len(stated) and all(map(same, recorded, stated))
    if isinstance(recorded, float) and isinstance(stated, str):
        return _number(stated) == recorded
    return bool(recorded == stated)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _at(root: Path, commit: str, name: str) -> bytes:
    """A file at a commit. Raises LineageError where there is none."""
    content = git.read(root, commit, name)
    if content is None:
        raise LineageError(f"this repository has no {name} at commit {commit[:12]}", fix="`git fetch --all`")
    return content


def _image(digest: str) -> Proof:
    """Whether this machine's engine has the image, whose digest is that of its bytes."""
    from tunesmith.runtime import docker, image  # for the models of few

    if not image.is_digest(digest):
        return Proof("differs", f"{digest} is no digest")
    docker.resolve(docker.connect(), digest)
    return Proof("verified", "the Docker engine here has it")


def _promotions(check: Promotions) -> Proof:
    if check.faults:
        return Proof("differs", check.faults[0])
    wrong = next((entry for entry in check.entries if entry.digest != check.digest), None)
    if wrong is not None:
        return equal(f"promoted by {wrong.who}", check.digest, wrong.digest)
    return Proof("verified", f"{len(check.entries)} entries, every hash and signature of the history")
