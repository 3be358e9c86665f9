"""Check every digest of a lineage tree that can be reached: verified, differs, or unreachable, and why."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from tunesmith.core import dvc_project, git, layout, lineage, manifest
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
    Mark,
    Node,
    Params,
    Promotions,
    Proof,
)
from tunesmith.registry.registered_models import Version
from tunesmith.registry.versions import Claims, VersionFiles

BASE = Path("models/base")


@dataclass(frozen=True)
class Reach:
    """Access to the project, the registry and the container engine."""

    root: Path
    """The project's folder."""
    fetch: Callable[[Version], VersionFiles]
    """Fetches and verifies a version's files; raises as `versions.fetch` does."""
    fetch_claims: Callable[[Version], tuple[Claims, str]]
    """Fetches and verifies the signed statement about a version: its claims and the signer; raises likewise."""
    find_image: Callable[[str], object]
    """Looks an image digest up in this machine's container engine. Raises ContainerError where the engine lacks it or
    does not answer, IntegrityError where the text is not an image digest."""


def verified(node: Node, reach: Reach) -> Node:
    """Return the same tree with a proof at every node that has a check."""
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
        case Code(commit=None) | Params(commit=None, document=None) | Lock(commit=None):
            return Proof("unreachable", "it was not made in a git checkout")
        case Code():
            return _code(check, reach.root)
        case Params():
            return _params(check, reach.root)
        case Lock():
            digest = hashlib.sha256(_read_at(reach.root, str(check.commit), str(layout.LOCK))).hexdigest()
            return _compare(f"{layout.LOCK} at the commit", check.sha256, digest)
        case Image():
            reach.find_image(check.digest)
            return Proof("verified", "the Docker engine here has it")
        case Evidence():
            claims, signer = reach.fetch_claims(check.version)
            mark: Mark = "verified" if claims == check.claims else "differs"
            return Proof(mark, f"every file; signed by {signer[:12]}")
        case Promotions():
            return _promotions(check)


def _compare(what: str, expected: str, actual: str) -> Proof:
    if expected == actual:
        return Proof("verified", what)
    return Proof("differs", f"{what}: expected {expected[:12]}, found {actual[:12]}")


def _files(check: Files, reach: Reach) -> Proof:
    if check.place is None:
        return Proof("unreachable", "neither in models/ nor registered")
    if isinstance(check.place, Version):
        files = reach.fetch(check.place)
        folder, where = files.folder, f"signed by {files.signer[:12]}"
    else:
        folder, where = check.place, f"in {check.place.relative_to(reach.root)}"
    verified_manifest = manifest.verify(folder)
    if lineage.read(folder) != check.lineage:
        return Proof("differs", f"{lineage.NAME}: changed since the tree was built")
    size = f"{len(verified_manifest.files)} files, every byte"
    return _compare(f"{size}, {where}", check.digest, verified_manifest.digest)


def _base(check: Base, folder: Path) -> Proof:
    if not folder.exists():
        return Proof("unreachable", f"no {BASE} here: `dvc repro fetch_base` makes it")
    digest = manifest.verify(folder).digest
    source = lineage.read(folder).get("source")
    if digest != check.digest and source != check.source:
        return Proof("unreachable", f"{BASE} here is another base: {source}")
    return _compare(f"{BASE}, every byte", check.digest, digest)


def _data(check: Data, root: Path) -> Proof:
    """Check rows in the project or DVC's cache. Rows here that are of another data set by now do not count."""
    here, path = root / check.path, Path(check.path)
    if here.is_file() and manifest.file_digest(here) == check.sha256:
        return _images(here) if check.images else Proof("verified", "here")
    cached = dvc_project.cached(root, check.cached, path) if check.cached else None
    if cached is not None:
        return _compare("in DVC's cache", check.sha256, manifest.file_digest(cached))
    today = lineage.dvc_hash(path, root / "dvc.lock").get("dvc")
    if here.is_file() and (today == check.cached or today is None):
        return _compare("here", check.sha256, manifest.file_digest(here))
    return Proof("unreachable", "neither here nor in DVC's cache: `dvc fetch` gets what a remote has")


def _images(rows: Path) -> Proof:
    """Check the images that rows name, in the folder beside them: an image's name is the SHA-256 of its file."""
    with rows.open("rb") as file:
        named = sorted({digest.decode() for line in file for digest in lineage.IMAGE.findall(line)})
    for digest in named:
        image = layout.image(rows.parent, digest)
        if not image.is_file():
            return Proof("unreachable", f"the rows are here, and no image {digest[:12]}: `dvc checkout` brings it back")
        if manifest.file_digest(image) != digest:
            return Proof("differs", f"{layout.IMAGES}/{image.name}: its bytes differ from its name")
    return Proof("verified", f"here, with {len(named):,} images, every byte")


def _code(check: Code, root: Path) -> Proof:
    commit = str(check.commit)
    if not git.knows(root, commit):
        return Proof("unreachable", "this repository has no such commit: `git fetch --all` gets what was pushed")
    if not check.clean:
        return Proof("unreachable", "the commit is here, but the uncommitted changes were not recorded")
    return Proof("verified", "the commit is here")


def _params(check: Params, root: Path) -> Proof:
    """Check that params.yaml gives the effective params, and whether the recorded one is that of the commit."""
    try:
        committed = yaml.safe_load(_read_at(root, str(check.commit), "params.yaml"))
    except LineageError:
        if check.document is None:
            raise
        committed = None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        if check.document is None:
            return Proof("differs", "params.yaml at the commit cannot be read")
        committed = None
    document, which = (committed, "at the commit") if check.document is None else (check.document, "as recorded")
    if different := list(differences(check.params, document)):
        return Proof("differs", f"params.yaml {which} has other values: {', '.join(different)}")
    if check.document is None:
        return Proof("verified", "params.yaml at the commit gives them")
    if committed is None:
        return Proof("verified", "params.yaml as recorded gives them; the commit's cannot be read here")
    whose = "is the commit's" if same(check.document, committed) else "is not the commit's"
    return Proof("verified", f"params.yaml as recorded gives them; it {whose}")


def differences(recorded: dict[str, dict[str, object]], document: object) -> Iterator[str]:
    """The dotted names of recorded entries that params.yaml lacks, and of values that it states otherwise.

    recorded: entries by section. Values that params.yaml does not state are defaults of the release that ran.
    """
    for section, entries in recorded.items():
        stated = document.get(section) if isinstance(document, dict) else None
        for name, entry in entries.items():
            if not isinstance(stated, dict) or name not in stated:
                yield f"{section}.{name}"
            else:
                yield from _other_values(entry, stated[name], f"{section}.{name}")


def _other_values(recorded: object, stated: object, place: str) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(stated, dict):
        for name, value in stated.items():
            if name in recorded:
                yield from _other_values(recorded[name], value, f"{place}.{name}")
            else:
                yield f"{place}.{name}"
    elif not same(recorded, stated) and not (stated is None and place.endswith(".learning_rate")):
        yield place  # a null there stands for a rate that follows from the model


def same(recorded: object, stated: object) -> bool:
    """Return whether a value equals that of params.yaml, in which a number may be text (as YAML reads 1e-3)."""
    if isinstance(recorded, dict) and isinstance(stated, dict):
        return recorded.keys() == stated.keys() and all(same(recorded[key], stated[key]) for key in recorded)
    if isinstance(recorded, list) and isinstance(stated, list):
        return len(recorded) == len(stated) and all(map(same, recorded, stated))
    if isinstance(recorded, int | float) and isinstance(stated, str):
        return _number(stated) == recorded
    return bool(recorded == stated)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _read_at(root: Path, commit: str, name: str) -> bytes:
    """Read a file at a commit. Raises LineageError where the commit does not have it."""
    content = git.read(root, commit, name)
    if content is None:
        raise LineageError(f"this repository has no {name} at commit {commit[:12]}", fix="`git fetch --all`")
    return content


def _promotions(check: Promotions) -> Proof:
    if check.faults:
        return Proof("differs", check.faults[0])
    wrong = next((entry for entry in check.entries if entry.digest != check.digest), None)
    if wrong is not None:
        return _compare(f"promoted by {wrong.who}", check.digest, wrong.digest)
    entries = "1 entry" if len(check.entries) == 1 else f"{len(check.entries)} entries"
    return Proof("verified", f"{entries}, every hash and signature of the history")
