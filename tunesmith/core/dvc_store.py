"""Files by digest in a store that several machines see: DVC's remote, or a folder that is laid out like one.

Both ends of a cluster use it: home puts what a stage reads, a node gets it, and outputs go the other way. An object
that DVC pushed is one that a node can get, and the other way round.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.fs import LocalFileSystem, get_cloud_fs
from dvc.repo import Repo
from dvc_data.hashfile.db import get_odb
from dvc_data.hashfile.hash import hash_file

from tunesmith.core.errors import ClusterError

JOBS = 8
"""Files that are moved at once."""
ASIDE = "tunesmith"
"""The folder of a store for what is no object of DVC, such as checkpoints, which are removed again."""


class Digest(NamedTuple):
    """The content of a file. md5: in hex, as DVC names it. size: bytes."""

    md5: str
    size: int


Tree = dict[str, Digest]
"""Files by their path from the project's root, with slashes."""


@dataclass(frozen=True)
class Address:
    """The place of a store. options: the remote's settings that git has; a machine's own secrets stay on it."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder."""
        return self.url.startswith(("/", "file://"))


def of_project(root: Path, shared: str | None) -> Address:
    """The store that a project's cluster uses: the folder ``shared``, or else DVC's default remote.

    Raises ClusterError where there is none, or its remote is one of versions, which has no objects.
    """
    if shared is not None:
        return Address(shared)
    config = Config(str(root / ".dvc"))
    name = config["core"].get("remote")
    if name not in config["remote"]:
        raise ClusterError(
            "engine ray: no place that this machine and the nodes both see",
            fix="set runtime.shared to a folder that all of them mount, or `dvc remote add -d NAME URL`",
        )
    known = {key: str(value) for key, value in config.load_one("repo")["remote"].get(name, {}).items()}
    if known.get("worktree") or known.get("version_aware"):
        raise ClusterError(
            f"the DVC remote {name} keeps versions of files, not objects by digest",
            fix="use another remote for the cluster (`dvc remote default NAME`), or set runtime.shared",
        )
    return Address(str(config["remote"][name]["url"]), {key: text for key, text in known.items() if key != "url"})


class Store:
    """Files by digest at an address. part: a folder of it for what is no object of DVC; "" for DVC's objects."""

    def __init__(self, address: Address, part: str = "", root: Path | None = None) -> None:
        """root: a project whose own settings of remotes, secrets included, count too; None on a node.

        Raises ClusterError where DVC cannot use the address, such as for lack of a plugin.
        """
        self.address, self.root = address, root
        try:
            remote = dict(address.options) | {"url": address.url}
            if root is not None:
                remotes = Config(str(root / ".dvc"))["remote"].values()
                remote |= next((dict(values) for values in remotes if str(values["url"]) == address.url), {})
            cls, config, path = get_cloud_fs({"remote": {"store": remote}}, name="store")
            self._fs = cls(**config)
        except (DvcException, ImportError) as error:
            raise ClusterError(
                f"{address.url}: DVC cannot use this remote here: {error}",
                fix="install its plugin on the nodes as on this machine, such as `pip install 'dvc[s3]'`",
            ) from None
        self._path = self._fs.join(path, *(("files", "md5") if not part else (ASIDE, *part.split("/"))))
        self._odb: Any = get_odb(self._fs, self._path, hash_name="md5")

    def beside(self, part: str) -> "Store":
        """A part of the same store."""
        return Store(self.address, part, self.root)

    def lacks(self, digests: Iterable[Digest]) -> set[Digest]:
        """The digests whose content is not there."""
        wanted = sorted(set(digests))
        with ThreadPoolExecutor(JOBS) as pool:
            there = pool.map(lambda digest: self._odb.exists(digest.md5), wanted)
            return {digest for digest, exists in zip(wanted, there, strict=True) if not exists}

    def put(self, sources: Mapping[Digest, Path]) -> int:
        """Put files that are not there yet; return the bytes that were written."""
        missing = [(digest, sources[digest]) for digest in sorted(self.lacks(sources))]
        if missing:
            paths, names = [str(path) for _, path in missing], [digest.md5 for digest, _ in missing]
            self._odb.add(paths, LocalFileSystem(), names, check_exists=False, jobs=JOBS)
        return sum(digest.size for digest, _ in missing)

    def get(self, digest: Digest, path: Path) -> None:
        """Write a file's content to ``path`` and check it. Raises ClusterError where it is missing or damaged."""
        try:
            self._fs.get_file(self._odb.oid_to_path(digest.md5), str(path))
        except FileNotFoundError:
            unseen = self.address.is_local and not Path(self.address.url.removeprefix("file://")).is_dir()
            raise ClusterError(
                f"{self.address.url}: {digest.md5} is not there"
                + ("; this machine does not even have that folder" if unseen else ""),
                fix="mount the folder on every node, or name a remote that all of them reach"
                if unseen
                else "run the stage again: what is missing there is put there first",
            ) from None
        if (found := md5(path)) != digest.md5:
            path.unlink()
            raise ClusterError(
                f"{self.address.url}: {digest.md5} is damaged (its content has {found})",
                fix="remove that file from the remote, then `dvc push` or run the stage again",
            )

    def keep_only(self, digests: Iterable[Digest]) -> None:
        """Remove all but these from a part that is no object of DVC."""
        wanted = {(digest.md5[:2], digest.md5[2:]) for digest in digests}
        for path in self._fs.find(self._path) if self._fs.exists(self._path) else []:
            if tuple(self._fs.parts(path)[-2:]) not in wanted:  # not by the whole path, which remotes write in two ways
                self._fs.remove(path)

    def remove(self) -> None:
        """Remove a part that is no object of DVC."""
        if self._fs.exists(self._path):
            self._fs.remove(self._path, recursive=True)


def md5(path: Path) -> str:
    """The MD5 of a file's bytes, in hex, as DVC names its content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def tree(root: Path, paths: Iterable[Path]) -> Tree:
    """The files at ``paths``, relative to ``root``, and in folders there, except those that .dvcignore leaves out.

    DVC remembers the digests of files that have not changed since. A path where nothing is adds nothing.
    """
    found: Tree = {}
    local = LocalFileSystem()
    with Repo(str(root)) as repo:
        for path in paths:
            for file in sorted(_files(repo, root / path)):
                _, known = hash_file(str(file), local, "md5", state=repo.state)
                found[file.relative_to(root).as_posix()] = Digest(str(known.value), file.stat().st_size)
    return found


def _files(repo: Any, path: Path) -> Iterable[Path]:
    if path.is_file():
        yield path
        return
    for place, _, names in repo.dvcignore.walk(LocalFileSystem(), str(path)) if path.is_dir() else []:
        yield from (Path(os.fspath(place), name) for name in names)


def plain_tree(root: Path, paths: Iterable[Path]) -> Tree:
    """As `tree`, without DVC: every file is read, and those with a name that begins with a dot are left out."""
    files = {
        file
        for path in paths
        for file in ([root / path] if (root / path).is_file() else (root / path).rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(root).parts)
    }
    return {file.relative_to(root).as_posix(): Digest(md5(file), file.stat().st_size) for file in sorted(files)}


def size(tree: Mapping[str, Digest]) -> int:
    """The bytes of a tree's files, each content once."""
    return sum(digest.size for digest in set(tree.values()))
