"""Direct access to a project's MLflow SQLite database and the artifact folders beside it.

Creates the database under a lock, which MLflow does not; rewrites the absolute artifact paths in it after the project
was moved or copied; and answers the frequent reads without the second and more that importing MLflow and opening a
database with it take.
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
SCHEMA_REVISION = "dc11669786a5"
"""The last migration of the MLflow tables that `Database` reads; a database at another one is left to MLflow."""
PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns of MLflow that hold artifact paths."""
BUSY_TIMEOUT = 60.0
"""Seconds to wait for another process's transaction."""


@contextmanager
def creation_lock(uri: str) -> Iterator[None]:
    """Hold the lock for creating an SQLite database; for any other address do nothing."""
    if not uri.startswith(SCHEME):
        yield
        return
    lock = Path(f"{uri.removeprefix(SCHEME)}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def create(uri: str, make_tables: Callable[[str], object]) -> None:
    """Create an SQLite database if it is missing: ``make_tables`` fills a file beside it, which is then renamed.

    MLflow cannot continue from tables that a kill left half made. Call only under `creation_lock`.
    """
    path = Path(uri.removeprefix(SCHEME))
    if not uri.startswith(SCHEME) or path.exists():
        return
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    make_tables(f"{SCHEME}{partial}")
    partial.rename(path)


def open_known_schema(uri: str) -> "Database | None":
    """Return the database at an address; None unless it is an SQLite file at SCHEMA_REVISION."""
    path = Path(uri.removeprefix(SCHEME))
    if not uri.startswith(SCHEME) or not path.is_file():
        return None
    try:
        database = Database(path)
        return database if database.query("SELECT version_num FROM alembic_version") == [(SCHEMA_REVISION,)] else None
    except RegistryError:
        return None


class Database:
    """The MLflow tables in an SQLite file, in the one workspace that a database without accounts has.

    Every method reads in one statement, so it sees the transactions of other processes as a whole, and raises
    RegistryError where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def versions(self, model: str) -> list[tuple[str, str, dict[str, str]]]:
        """List number, run and tags of every version of a registered model, newest first."""
        versions: dict[str, tuple[str, str, dict[str, str]]] = {}
        for number, run, tag, value in self.query(
            "SELECT version, run_id, key, value FROM model_versions LEFT JOIN model_version_tags "
            "USING (workspace, name, version) WHERE workspace = 'default' AND name = :model "
            "AND current_stage != 'Deleted_Internal' ORDER BY version DESC",
            model=model,
        ):
            _, _, tags = versions.setdefault(number, (str(number), str(run), {}))
            if tag is not None:
                tags[tag] = value
        return list(versions.values())

    def tags(self, model: str) -> dict[str, str] | None:
        """Return the tags of a registered model; None where no model has the name."""
        rows = self.query(
            "SELECT key, value FROM registered_models LEFT JOIN registered_model_tags USING (workspace, name) "
            "WHERE workspace = 'default' AND name = :model",
            model=model,
        )
        return {tag: value for tag, value in rows if tag is not None} if rows else None

    def alias(self, model: str, alias: str) -> str | None:
        """Return the number of the version that an alias points to; None where it is not set."""
        rows = self.query(
            "SELECT version FROM registered_model_aliases "
            "WHERE workspace = 'default' AND name = :model AND alias = :alias",
            model=model,
            alias=alias,
        )
        return str(rows[0][0]) if rows else None

    def artifacts(self, run: str) -> str:
        """Return the address of a run's artifacts. Raises RegistryError where the run does not exist."""
        rows = self.query("SELECT artifact_uri FROM runs WHERE run_uuid = :run", run=run)
        if not rows:
            raise RegistryError(f"{self.path} has no run {run}", fix="restore the database, or register again")
        return str(rows[0][0])

    def update_artifact_paths(self, experiment: str, folder: Path) -> None:
        """Point the artifacts of a moved or copied project to ``folder``, in one transaction.

        Does so where the experiment's artifacts are recorded in another folder of the same name.
        """
        for (recorded,) in self.query("SELECT artifact_location FROM experiments WHERE name = :name", name=experiment):
            if Path(recorded).name != folder.name or recorded == str(folder):
                continue
            with self._open() as database, database:
                for table, column in PATH_COLUMNS:
                    database.execute(
                        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                        f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
                        {"old": recorded, "new": str(folder)},
                    )

    def query(self, query: str, **values: str) -> list[tuple[str, ...]]:
        """Return the rows of a query."""
        with self._open() as database:
            return database.execute(query, values).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT)) as database:
                yield database
        except sqlite3.Error as error:
            raise UnreachableTrackerError(
                f"{self.path}: cannot be read as MLflow's database: {error}",
                fix="restore it, or set MLFLOW_TRACKING_URI to the intended tracking server",
            ) from None


def local_folder(address: str) -> Path | None:
    """Return the folder on this machine that an artifact address names, as MLflow reads it; None for other schemes."""
    parts = urlsplit(address)
    if parts.scheme:
        return Path(unquote(parts.path)) if parts.scheme == "file" else None
    return Path(unquote(address))


def copy_artifact(artifacts: Path, path: str, into: Path) -> Path:
    """Copy a file or a folder of a run's ``artifacts`` into a folder, replacing files there, and return its path.

    Raises IntegrityError for a link, RegistryError where the artifact does not exist.
    """
    source = _resolve(artifacts, path)
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


def list_folders(artifacts: Path, path: str) -> list[str]:
    """List the names of the folders in a folder of a run's ``artifacts``; empty where it does not exist."""
    return sorted(entry.name for entry in _resolve(artifacts, path).glob("*") if entry.is_dir())


def _resolve(artifacts: Path, path: str) -> Path:
    """Return the place of an artifact. Raises as `copy_artifact` does where the path leads out of ``artifacts``.

    The path may come from a tag, which anyone with access to the tracker can write.
    """
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise RegistryError(f"{path!r} is not a path among a run's artifacts", fix="find out who changed the tags")
    for parent in [*reversed(relative.parents), relative][1:]:
        manifest.no_link(artifacts / parent)
    return artifacts / relative
