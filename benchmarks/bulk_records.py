"""Records of many runs, versions and promotions, written as rows of MLflow's SQLite database.

Making them through a client would take hours. Real ones are made first, and their rows copied under other numbers; an
entry of the history is not copied but made and signed like any other, so that the whole chain verifies.
"""

import sqlite3
import uuid
from pathlib import Path

from tests.registered_versions import NAME, SIGNING
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.trust.chain import ENTRY_TAG, SIGNATURE_TAG, Chain, Entry, Kind, name_of
from tunesmith.registry.versions import DIGEST_TAG, STATEMENT_TAG

RUN_TABLES = {"runs": "run_uuid", "metrics": "run_uuid", "latest_metrics": "run_uuid", "params": "run_uuid"}
"""Tables of runs, and their column with the run's id. Tags are left out: a run's key is its own."""


def copy(database: sqlite3.Connection, table: str, where: dict[str, object], changed: dict[str, object]) -> None:
    """Copy the rows of ``table`` that match ``where``, with other values in the columns of ``changed``."""
    columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
    values = ", ".join("?" if column in changed else column for column in columns)
    condition = " and ".join(f"{column} = ?" for column in where)
    database.execute(
        f"insert into {table} select {values} from {table} where {condition}",
        [*(changed[column] for column in columns if column in changed), *where.values()],
    )


def add_runs(path: Path, run: str, count: int) -> None:
    """Copies of a run with its metrics and params."""
    with sqlite3.connect(path) as database:
        for _ in range(count):
            new = uuid.uuid4().hex
            for table, column in RUN_TABLES.items():
                copy(database, table, {column: run}, {column: new})


def add_history(path: Path, registry: Registry, chain: Chain, versions: int, promotions: int) -> None:
    """Copies of the last registered version, up to ``versions`` in all, each with its entry in the history, and then as
    many promotions of all of them by turns; the last is of the newest that was registered, not copied.
    """
    real = registry.versions(NAME)[0]
    entries = registry.versions(name_of(NAME))
    last, ledger_last = int(real.number), int(entries[0].number)
    moves = [move for move in chain.entries if move.kind != "registration"]
    with sqlite3.connect(path) as database:

        def add(kind: Kind, number: int) -> None:
            nonlocal ledger_last
            entry = chain.successor(
                of=NAME,
                alias="" if kind == "registration" else "champion",
                kind=kind,
                model=f"model-{number}" if number != last else "sft-lora",
                version=str(number),
                previous=None if kind == "registration" or not moves else moves[-1].version,
                why="passed the gate",
                evidence="better by 36 points",
                digest=real.tags[DIGEST_TAG],
                statement=real.tags[STATEMENT_TAG],
            )
            ledger_last += 1
            _write(database, entry, entries[0], ledger_last)
            chain.entries.append(entry)
            if kind == "promotion":
                moves.append(entry)

        for number in range(last + 1, versions + 1):
            for table in ("model_versions", "model_version_tags"):
                copy(database, table, {"name": NAME, "version": last}, {"version": number})
            add("registration", number)
        for turn in range(promotions - len(moves) - 1):
            add("promotion", last + turn % (versions - last + 1))
        add("promotion", last)
    registry.move_alias(NAME, "champion", str(last))


def _write(database: sqlite3.Connection, entry: Entry, like: Version, number: int) -> None:
    """Write an entry as a version of the ledger."""
    text = entry.text()
    tags = {ENTRY_TAG: text, SIGNATURE_TAG: signatures.sign_text(text, SIGNING)}
    where: dict[str, object] = {"name": name_of(NAME), "version": int(like.number)}
    copy(database, "model_versions", where, {"version": number})
    for key, value in tags.items():
        copy(database, "model_version_tags", {**where, "key": key}, {"version": number, "value": value})
