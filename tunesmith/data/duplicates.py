"""Rows that say almost the same: MinHash (Broder 1997) finds candidates, their exact Jaccard similarity decides.

A row's shingles are all runs of eight bytes of its text in normal form. Rows that agree in one of 16 bands of 4 hashes
are candidates (a pair with similarity 0.8 with probability 0.9998, one with 0.5 in two of three cases), unless they
agree in far too few of the 64 hashes, of which a byte each is kept (Li and König 2010).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from tunesmith.core import ready_rows
from tunesmith.core.ready_rows import Row, reference
from tunesmith.data import splits
from tunesmith.verifiers import catalog
from tunesmith.verifiers.catalog import VERIFIERS

SHINGLE = 8
BANDS, HASHES = 16, 4
SEED = 1
COMPARED = 4
"""In a band a row is compared with so many rows before it: the work stays linear where thousands of rows follow one
pattern, and of those some near duplicates may be missed."""
SLACK = 0.15
"""Pairs are measured when their estimate is not further below the similarity asked for: three standard deviations."""
MIX = np.uint64(0x9E3779B97F4A7C15)

Hashes = npt.NDArray[np.uint64]


def signatures(texts: Sequence[str]) -> Hashes:
    """(texts, BANDS + HASHES * BANDS / 8): a hash for each band, then a byte of every hash."""
    shingles = [_shingles(text) for text in texts]
    offsets = np.zeros(len(texts) + 1, np.uint64)
    np.cumsum([len(row) for row in shingles], out=offsets[1:])
    flat = np.concatenate(shingles) * MIX
    digests = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, BANDS * HASHES, SEED).to_rows()
    bands = np.array(digests, np.uint64).reshape(len(texts), BANDS, HASHES)
    mixed = np.zeros(bands.shape[:2], np.uint64)
    for position in range(HASHES):
        mixed = (mixed ^ bands[:, :, position]) * MIX
        mixed ^= mixed >> np.uint64(29)
    sketch = np.array(digests, np.uint64).astype(np.uint8)
    return np.concatenate([mixed, sketch.view(np.uint64)], axis=1)


def find_similar(signatures: Hashes, text: Callable[[int], str], similarity: float) -> dict[int, tuple[int, float]]:
    """Rows that are at least so similar to one before them that is kept: row -> (that row, Jaccard similarity).

    text: the text of a row, asked for candidates only.
    """
    found: dict[int, tuple[int, float]] = {}
    for earlier, later in _likely(signatures, similarity - SLACK).tolist():
        if earlier in found or later in found:
            continue
        measured = jaccard(text(earlier), text(later))
        if measured >= similarity:
            found[later] = earlier, measured
    return found


def jaccard(first: str, second: str) -> float:
    """Shared shingles, as a share of all shingles of the two."""
    a, b = np.unique(_shingles(first)), np.unique(_shingles(second))
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def _shingles(text: str) -> Hashes:
    """Every run of SHINGLE bytes; those at the end are filled up with zeros."""
    data = text.encode() or b" "
    return np.ndarray((len(data),), "<u8", data + bytes(SHINGLE), 0, (1,))


def _likely(signatures: Hashes, least: float) -> npt.NDArray[np.intp]:
    """Candidates whose hashes agree in at least this share."""
    pairs = _candidates(signatures[:, :BANDS])
    sketch = np.ascontiguousarray(signatures[:, BANDS:]).view(np.uint8)
    chunks = np.array_split(pairs, len(pairs) // 100_000 + 1)
    agree: list[npt.NDArray[np.bool_]] = [
        (sketch[chunk[:, 0]] == sketch[chunk[:, 1]]).mean(axis=1) >= least for chunk in chunks
    ]
    return pairs[np.concatenate(agree)]


def _candidates(bands: Hashes) -> npt.NDArray[np.intp]:
    """Pairs (earlier row, later row), in the order of the later."""
    pairs = [np.empty((0, 2), np.intp)]
    for column in bands.T:
        order = np.argsort(column, kind="stable")
        hashes = column[order]
        for lag in range(1, COMPARED + 1):
            same = hashes[lag:] == hashes[:-lag]
            pairs.append(np.stack([order[:-lag][same], order[lag:][same]], axis=1))
        pairs = [np.unique(np.concatenate(pairs), axis=0)]
    [merged] = pairs
    return merged[np.lexsort((merged[:, 0], merged[:, 1]))]


def find_contradictions(rows: dict[int, Row]) -> dict[int, int]:
    """Of rows that are asked the same, those that contradict another: position -> position of one that they contradict.

    Which of them is right, nobody knows. The time is linear in the number of rows.
    """
    if len(rows) < 2:
        return {}
    return _reversed_pairs(rows) if any("chosen" in row for row in rows.values()) else _unlike_the_first(rows)


def _unlike_the_first(rows: dict[int, Row]) -> dict[int, int]:
    """All rows, each with one that answers otherwise, unless all answer the same."""
    first, *others = rows
    unlike = {position: first for position in others if not _agree(rows[first], rows[position])}
    if not unlike:
        return {}
    return {position: unlike.get(position, next(iter(unlike))) for position in rows}


def _agree(one: Row, other: Row) -> bool:
    if "reference" not in one and "completion" not in one:
        return {**one, "id": ""} == {**other, "id": ""}
    name = one.get("verifier", "")
    if name not in VERIFIERS or catalog.gold(name, one) is None:
        return splits.normal(reference(one)) == splits.normal(reference(other))
    return catalog.verify(name, catalog.gold(name, one) or "", other).score == 1


def _reversed_pairs(rows: dict[int, Row]) -> dict[int, int]:
    """Pairs of which another prefers the opposite."""
    sides = {
        position: (ready_rows.dumps(row["chosen"]), ready_rows.dumps(row["rejected"])) for position, row in rows.items()
    }
    known = {pair: position for position, pair in sides.items()}
    return {position: known[r, c] for position, (c, r) in sides.items() if (r, c) in known}
