"""What DVC knows of a project: stages, cache and remotes. The only importer of dvc, whose command is run elsewhere."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.repo import Repo

from tunesmith.core.errors import LineageError


@dataclass(frozen=True)
class Stage:
    """target: its name for `dvc repro`, such as train_sft@lora. deps, outs: from the project's root. runs: or it is a
    file under `dvc add`. command: as dvc.yaml has it. network: whether it declares that it needs one.
    host: whether it declares that it never runs in a container.
    """

    target: str
    deps: tuple[Path, ...]
    outs: tuple[Path, ...]
    runs: bool
    command: str = ""
    network: bool = False
    host: bool = False


def stages(root: Path) -> list[Stage]:
    """Every stage, as dvc.yaml and params.yaml there give it. Raises LineageError where DVC cannot read them."""
    with _opened(root) as repo:
        found = list(repo.index.stages)
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
        for stage in found
    ]


def maker(known: list[Stage], path: Path) -> Stage | None:
    """The stage that writes a path, or the folder it is in; None where no stage does."""
    places = {path, *path.parents}
    return next((stage for stage in known if places & set(stage.outs)), None)


def upstream(known: list[Stage], last: Stage) -> list[Stage]:
    """A stage and all that it needs, each once, what is needed first."""
    found: dict[str, Stage] = {}
    for dep in last.deps:
        made_by = maker(known, dep)
        for stage in upstream(known, made_by) if made_by else []:
            found.setdefault(stage.target, stage)
    return [*found.values(), last]


def loose(known: list[Stage], needed: list[Stage]) -> list[Path]:
    """What these stages read and no stage writes."""
    return sorted({dep for stage in needed for dep in stage.deps if maker(known, dep) is None})


def cached(root: Path, digest: str, path: Path) -> Path | None:
    """The file in the cache that ``digest`` ("md5:...", a file's or a folder's that it lay in) stands for, if there."""
    found = re.fullmatch(r"md5:([0-9a-f]{32})(\.dir)?", digest)
    if not found:
        return None
    file, folder = cache(root) / "files" / "md5" / found[1][:2], found[2] or ""
    file /= found[1][2:] + folder
    if not file.is_file():
        return None
    if not folder:
        return file
    inside = {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text())}
    names = ("/".join(path.parts[start:]) for start in range(len(path.parts)))
    part = next((inside[name] for name in names if name in inside), None)
    return None if part is None else cached(root, f"md5:{part}", path)


def inputs(root: Path, target: str) -> tuple[str, dict[str, str]]:
    """The command of a stage, and DVC's MD5 of each of its dependencies as it is now, by path from ``root``."""
    with _opened(root) as repo:
        (stage,) = (stage for stage in repo.index.stages if stage.addressing == target)
        return str(stage.cmd), {str(dep): dep.get_hash().value for dep in stage.deps}


def cached_files(root: Path, digest: str) -> dict[str, Path] | None:
    """The files in the cache that make up an output with this MD5, by relative path; "" is the path of a lone file.

    None where the cache lacks one.
    """
    if not digest.endswith(".dir"):
        file = _cached(root, digest)
        return {"": file} if file.is_file() else None
    listing = _cached(root, digest)
    if not listing.is_file():
        return None
    found = {entry["relpath"]: _cached(root, entry["md5"]) for entry in json.loads(listing.read_text())}
    return found if all(file.is_file() for file in found.values()) else None


def _cached(root: Path, digest: str) -> Path:
    return cache(root) / "files" / "md5" / digest[:2] / digest[2:]


def cache(root: Path) -> Path:
    """Where the cache is, absolute, by the name that links into it have."""
    return Path(Config(str(root / ".dvc"))["cache"].get("dir") or root / ".dvc" / "cache").absolute()


def links(root: Path) -> bool:
    """Whether files of the project may be symbolic links into the cache."""
    return "symlink" in (Config(str(root / ".dvc"))["cache"].get("type") or [])


def remotes(root: Path) -> dict[str, str]:
    """Addresses by name; the default one first."""
    config = Config(str(root / ".dvc"))
    known = {name: str(remote["url"]) for name, remote in config["remote"].items()}
    return dict(sorted(known.items(), key=lambda one: one[0] != config["core"].get("remote")))


def reach(root: Path) -> bool:
    """Whether the default remote answers, and if it is a folder, is there. What its file system raises goes through."""
    with _opened(root) as repo:
        remote = repo.cloud.get_remote()
        return bool(remote.fs.exists(remote.path)) or remote.fs.protocol != "local"  # a bucket's prefix may be new


def share(root: Path, tree: Path) -> None:
    """Give a work tree the project's cache and remotes; what is relative there stays what it is."""
    ours = Config(str(root / ".dvc"))
    with Config(str(tree / ".dvc")).edit("local") as config:
        for level in ("repo", "local"):
            for section, values in ours.load_one(level).items():
                config.setdefault(section, {}).update(values)
        config["cache"]["dir"] = str(cache(root))


@contextmanager
def _opened(root: Path) -> Iterator[Repo]:
    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        raise LineageError(
            f"{root}: DVC cannot read it: {error}", fix="correct dvc.yaml, params.yaml or .dvc"
        ) from None


def _local(parts: list[object], root: Path) -> tuple[Path, ...]:
    """The paths of deps or outs that are files here, from the root, each once."""
    paths = [Path(str(part.fs_path)) for part in parts if getattr(part, "protocol", None) == "local"]  # type: ignore[attr-defined]
    return tuple(
        dict.fromkeys(path.relative_to(root.resolve()) for path in paths if path.is_relative_to(root.resolve()))
    )
