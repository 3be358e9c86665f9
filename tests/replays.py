"""A project with a registry, made once and laid anew for each test: to register takes longer than most tests."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tunesmith.registry.registered_models import Registry

PARAMS = "registry: {experiment: arithmetic, model: calculator}\n"


class Replays:
    """A project that an action prepared once, and that is laid anew, at the same place, as often as needed."""

    def __init__(self, around: Path, schema: Path, prepare: Callable[[Path], Any]) -> None:
        self.place, self._snapshot = around / "replayed", around / "snapshot"
        self.place.mkdir()
        shutil.copy(schema, self.place / "mlflow.db")
        (self.place / "params.yaml").write_text(PARAMS)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.place)
            self.prepared = prepare(self.place)
        shutil.copytree(self.place, self._snapshot)

    @contextmanager
    def again(self) -> Iterator[Registry]:
        """Lay the project anew; the database in place, since opening another one takes MLflow half a second."""
        for path in self.place.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "mlflow.db":
                path.unlink()
        shutil.copytree(self._snapshot, self.place, ignore=shutil.ignore_patterns("mlflow.db"), dirs_exist_ok=True)
        databases = (sqlite3.connect(folder / "mlflow.db") for folder in (self._snapshot, self.place))
        with closing(next(databases)) as snapshot, closing(next(databases)) as live:
            snapshot.backup(live)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.place)
            yield Registry()
