"""Errors that a user can act on."""

import pickle

from tunesmith.core.errors import DataError


def test_an_error_of_another_process_arrives_whole() -> None:
    """Workers that check rows, on this machine or on a cluster, hand their errors over pickled."""
    error = pickle.loads(pickle.dumps(DataError("rows.jsonl:3: no prompt", fix="add one")))
    assert isinstance(error, DataError)
    assert (str(error), error.fix) == ("rows.jsonl:3: no prompt\n  fix: add one", "add one")
