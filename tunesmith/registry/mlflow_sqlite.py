"""mlflow.db of a project: laid out by one process at a time, right about where its artifacts are, and read at once.

MLflow lays a new database out as if nobody else did so at once, and writes down absolute places, which are another
project's once a folder is copied, and nobody's once it is moved. It takes a second and more to be imported and to open
a database, which who only asks for a version need not wait for: what is asked most is read from its tables as they are.
"""

import fcntl
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tunesmith.core import manifest
from tunesmith.core.errors import RegistryError, UnreachableTrackerError

SCHEME = "sqlite:///"
SCHEMA = "dc11669786a5"
"""The last migration of MLflow's tables as `Database` reads them; a database of another one is left to MLflow."""
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns of MLflow's tables that hold places of artifacts."""
PATIENCE = 60.0
"""Seconds to wait for another process's transaction."""


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """Hold others off who open the same SQLite database so; any other address needs nothing."""
    if not uri.startswith(SCHEME):
        yield
        return
    lock = Path(f"{uri.removeprefix(SCHEME)}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def lay_out(uri: str, make: Callable[[str], object]) -> None:
    """Let ``make`` lay the database out beside its place, and put it there whole, where there is none yet.

    MLflow cannot go on with one that a kill left half laid out. Only while `alone`.
    """
    place = Path(uri.removeprefix(SCHEME))
    if not uri.startswith(SCHEME) or place.exists():
        return
    partial = place.with_name(f"{place.name}.partial")
    partial.unlink(missing_ok=True)
    make(f"{SCHEME}{partial}")
    partial.rename(place)


def readable(uri: str) -> "Database | None":
    """The database at an address; None where MLflow alone can tell what is there, if anything."""
    place = Path(uri.removeprefix(SCHEME))
    if not uri.startswith(SCHEME) or not place.is_file():
        return None
    try:
        database = Database(place)
        return database if database.ask("SELECT version_num FROM alembic_version") == [(SCHEMA,)] else None
    except RegistryError:
        return None


class Database:
    """MLflow's tables in a file, in the one workspace that a database without accounts has.

    Every method reads in one statement, so it sees each transaction of others whole or not at all, and raises
    RegistryError where the file cannot be read.
    """

    def __init__(self, place: Path) -> None:
        self.place = place

    def versions(self, model: str) -> list[tuple[str, str, dict[str, str]]]:
        """Number, run and tags of every version of a registered model, newest first."""
        found: dict[str, tuple[str, str, dict[str, str]]] = {}
        for number, run, tag, value in self.ask(
            "SELECT version, run_id, key, value FROM model_versions LEFT JOIN model_version_tags "
            "USING (workspace, name, version) WHERE workspace = 'default' AND name = :model "
            "AND current_stage != 'Deleted_Internal' ORDER BY version DESC",
            model=model,
        ):
            _, _, tags = found.setdefault(number, (str(number), str(run), {}))
            if tag is not None:
                tags[tag] = value
        return list(found.values())

    def tags(self, model: str) -> dict[str, str] | None:
        """Of a registered model; None where there is none of the name."""
        found = self.ask(
            "SELECT key, value FROM registered_models LEFT JOIN registered_model_tags USING (workspace, name) "
            "WHERE workspace = 'default' AND name = :model",
            model=model,
        )
        return {tag: value for tag, value in found if tag is not None} if found else None

    def alias(self, model: str, alias: str) -> str | None:
        """The number of the version that an alias points to."""
        found = self.ask(
            "SELECT version FROM registered_model_aliases "
            "WHERE workspace = 'default' AND name = :model AND alias = :alias",
            model=model,
            alias=alias,
        )
        return str(found[0][0]) if found else None

    def artifacts(self, run: str) -> str:
        """The address of a run's artifacts. Raises RegistryError where there is no such run."""
        found = self.ask("SELECT artifact_uri FROM runs WHERE run_uuid = :run", run=run)
        if not found:
            raise RegistryError(f"{self.place} has no run {run}", fix="restore the database, or register again")
        return str(found[0][0])

    def follow(self, experiment: str, folder: Path) -> None:
        """Write down that the artifacts of an experiment are in ``folder``, if they were in another one of its name.

        Whole or not at all: the project was moved or copied, and its artifacts with it.
        """
        for (old,) in self.ask("SELECT artifact_location FROM experiments WHERE name = :name", name=experiment):
            if Path(old).name == folder.name and old != str(folder):
                self._move(old, str(folder))

    def _move(self, old: str, new: str) -> None:
        with self._open() as database, database:
            for table, column in PLACES:
                database.execute(
                    f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                    f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
                    {"old": old, "new": new},
                )

    def ask(self, query: str, **values: str) -> list[tuple[str, ...]]:
        """The rows that a query finds."""
        with self._open() as database:
            return database.execute(query, values).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.place, timeout=PATIENCE)) as database:
                yield database
        except sqlite3.Error as error:
            raise UnreachableTrackerError(
                f"{self.place}: not to be read as MLflow's database: {error}",
                fix="restore it, or set MLFLOW_TRACKING_URI to the tracking server that is meant",
            ) from None


def folder(address: str) -> Path | None:
    """What an address of artifacts means, if it is a folder of this machine; as MLflow reads it."""
    parts = urlsplit(address)
    if parts.scheme:
        return Path(unquote(parts.path)) if parts.scheme == "file" else None
    return Path(unquote(address))


def copy(artifacts: Path, path: str, into: Path) -> Path:
    """Copy a file or a folder into a folder, over what of it is there, and return where it lies.

    Raises IntegrityError for a link, RegistryError where there is nothing.
    """
    source = _inside(artifacts, path)
    for file in source.rglob("*"):
        manifest.no_link(file)
    target = into / source.name
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    elif source.is_file():
        into.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target, follow_symlinks=False)
    else:
        raise RegistryError(f"{source}: no such artifact", fix="find out who removed it; register the model again")
    return target


def folders(artifacts: Path, path: str) -> list[str]:
    """Names of the folders in a folder; none where there is no such folder."""
    return sorted(entry.name for entry in _inside(artifacts, path).glob("*") if entry.is_dir())


def _inside(artifacts: Path, path: str) -> Path:
    """The place of a path that a tag may name, which anyone can write. Raises as `copy` does, if it leads elsewhere."""
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise RegistryError(f"{path!r} is no path among a run's artifacts", fix="find out who changed the tags")
    for parent in [*reversed(relative.parents), relative][1:]:
        manifest.no_link(artifacts / parent)
    return artifacts / relative
