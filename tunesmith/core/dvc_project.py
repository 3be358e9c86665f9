"""DVC's view of a project: its stages, cache and remotes. The only importer of dvc; others run its command."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.repo import Repo

from tunesmith.core import files
from tunesmith.core.errors import LineageError


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml, or a file under `dvc add`.

    target: its name for `dvc repro`, such as train_sft@sft-lora. deps, outs: paths from the root. runs: whether
    it has a command, unlike a file under `dvc add`. command: as in dvc.yaml. network: whether its meta declares that it
    needs a network. host: whether its meta declares that it never runs in a container.
    """

    target: str
    deps: tuple[Path, ...]
    outs: tuple[Path, ...]
    runs: bool
    command: str = ""
    network: bool = False
    host: bool = False


def stages(root: Path) -> list[Stage]:
    """Every stage of dvc.yaml, with its entries. Raises LineageError where DVC cannot read dvc.yaml or params.yaml."""
    with _open(root) as repo:
        pipeline = list(repo.index.stages)
    return [
        Stage(
            str(stage.name if stage.cmd else stage.path_in_repo),
            _local(stage.deps, root),
            _local(stage.outs, root),
            bool(stage.cmd),
            str(stage.cmd or ""),
            bool((stage.meta or {}).get("network")),
            bool((stage.meta or {}).get("host")),
        )
        for stage in pipeline
    ]


def maker(stages: list[Stage], path: Path) -> Stage | None:
    """The stage that writes a path or a folder that holds it; None where no stage does."""
    places = {path, *path.parents}
    return next((stage for stage in stages if places & set(stage.outs)), None)


def _overlap(first: Path, second: Path) -> bool:
    return first.is_relative_to(second) or second.is_relative_to(first)


def upstream(stages: list[Stage], last: Stage) -> list[Stage]:
    """A stage and all stages that it needs, each once and after those that it needs."""
    needed: dict[str, Stage] = {}
    for dep in last.deps:
        writers = [stage for stage in stages if any(_overlap(dep, out) for out in stage.outs)]
        for stage in (before for writer in writers for before in upstream(stages, writer)):
            needed.setdefault(stage.target, stage)
    return [*needed.values(), last]


def sources(stages: list[Stage], needed: list[Stage]) -> list[Path]:
    """The paths that the stages ``needed`` read and no stage writes."""
    return sorted({dep for stage in needed for dep in stage.deps if maker(stages, dep) is None})


def cached(root: Path, digest: str, path: Path) -> Path | None:
    """The cached content of ``path``, whose hash is ``digest``, or that of a folder which held it; None if not cached.

    digest: as lineages have it, "md5:<32 hex>" for a file and "md5:<32 hex>.dir" for a folder.
    """
    match = re.fullmatch(r"md5:([0-9a-f]{32}(\.dir)?)", digest)
    file = _cache_file(root, match[1]) if match else None
    if file is None or not file.is_file():
        return None
    if not digest.endswith(".dir"):
        return file
    hashes = {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text())}
    names = ("/".join(path.parts[start:]) for start in range(len(path.parts)))
    part = next((hashes[name] for name in names if name in hashes), None)
    return None if part is None else cached(root, f"md5:{part}", path)


def inputs(root: Path, target: str) -> tuple[str, dict[str, str]]:
    """The command of a stage, and DVC's MD5 of the present content of each of its deps, by path from ``root``."""
    with _open(root) as repo:
        (stage,) = (stage for stage in repo.index.stages if stage.addressing == target)
        return str(stage.cmd), {str(dep): dep.get_hash().value for dep in stage.deps}


def cached_files(root: Path, digest: str) -> dict[str, Path] | None:
    """The cached files of an output with this MD5, by relative path; "" is the path of an output that is one file.

    None where the cache lacks any of them.
    """
    file = _cache_file(root, digest)
    if not file.is_file():
        return None
    if not digest.endswith(".dir"):
        return {"": file}
    files = {entry["relpath"]: _cache_file(root, entry["md5"]) for entry in json.loads(file.read_text())}
    return files if all(file.is_file() for file in files.values()) else None


def add(root: Path, content: bytes, end: str = "") -> str:
    """Put a file's content into the cache, and return its MD5. end: ".dir" for a folder, whose content is its list."""
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest() + end
    path = _cache_file(root, digest)
    if not path.exists():
        files.write_bytes(path, content)
    return digest


def _cache_file(root: Path, digest: str) -> Path:
    return cache(root) / "files" / "md5" / digest[:2] / digest[2:]


def cache(root: Path) -> Path:
    """The folder of the cache, absolute and unresolved, as links into it name it."""
    return Path(Config(str(root / ".dvc"))["cache"].get("dir") or root / ".dvc" / "cache").absolute()


def uses_symlinks(root: Path) -> bool:
    """Whether files of the project may be symbolic links into the cache."""
    return "symlink" in (Config(str(root / ".dvc"))["cache"].get("type") or [])


def remotes(root: Path) -> dict[str, str]:
    """The remotes' addresses by name; the default remote first."""
    config = Config(str(root / ".dvc"))
    addresses = {name: str(remote["url"]) for name, remote in config["remote"].items()}
    return dict(sorted(addresses.items(), key=lambda item: item[0] != config["core"].get("remote")))


def remote_exists(root: Path) -> bool:
    """Whether the default remote answers and, if it is a folder, exists. Errors of its file system rise."""
    with _open(root) as repo:
        remote = repo.cloud.get_remote()
        return bool(remote.fs.exists(remote.path)) or remote.fs.protocol != "local"  # a bucket's prefix may be new


def share(root: Path, tree: Path) -> None:
    """Give a work tree the project's cache and remotes; relative addresses keep their meaning."""
    ours = Config(str(root / ".dvc"))
    with Config(str(tree / ".dvc")).edit("local") as config:
        for level in ("repo", "local"):
            for section, values in ours.load_one(level).items():
                config.setdefault(section, {}).update(values)
        config["cache"]["dir"] = str(cache(root))


@contextmanager
def _open(root: Path) -> Iterator[Repo]:
    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        raise LineageError(
            f"{root}: DVC cannot read it: {error}", fix="correct dvc.yaml, params.yaml or .dvc"
        ) from None


def _local(parts: list[object], root: Path) -> tuple[Path, ...]:
    """The paths of deps or outs inside the project, relative to its root, each once."""
    paths = [Path(str(part.fs_path)) for part in parts if getattr(part, "protocol", None) == "local"]  # type: ignore[attr-defined]
    return tuple(
        dict.fromkeys(path.relative_to(root.resolve()) for path in paths if path.is_relative_to(root.resolve()))
    )
