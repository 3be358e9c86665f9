"""mlflow.db of a project: laid out by one process at a time, and right about where its artifacts are.

MLflow lays a new database out as if nobody else did so at once, and writes down absolute places, which are another
project's once a folder is copied, and nobody's once it is moved.
"""

import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SCHEME = "sqlite:///"
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns of MLflow's tables that hold places of artifacts."""


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


def move_artifacts(uri: str, old: str, new: str) -> None:
    """Write down that what lay in the folder ``old`` lies in ``new``, whole or not at all."""
    with closing(sqlite3.connect(uri.removeprefix(SCHEME), timeout=60)) as database, database:
        for table, column in PLACES:
            database.execute(
                f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
                {"old": old, "new": new},
            )
