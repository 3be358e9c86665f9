"""Rows compared with each other: near duplicates, and contradictions among rows with the same prompt.

Near duplicates: MinHash (Broder 1997) finds candidates, and their exact Jaccard similarity decides. The shingles of a
row are all runs of eight bytes of its normalised text. Rows that agree in one of 16 bands of 4 hashes are candidates (a
pair of similarity 0.8 with probability 0.9998, one of 0.5 with probability 0.64), unless they agree in far too few of
the 64 hashes, of which one byte each is kept (Li and König 2010).
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from tunesmith.core import ready_rows
from tunesmith.core.ready_rows import Row, reference
from tunesmith.data import splits
from tunesmith.verifiers import catalog

SHINGLE = 8
BANDS, HASHES = 16, 4
SEED = 1
COMPARED = 4
"""Earlier rows that a row is compared with in each band. The limit keeps the time linear where thousands of rows follow
one pattern; some near duplicates among those may be missed."""
SLACK = 0.15
"""Margin of the estimate below the wanted similarity, within which a pair is measured: three standard deviations."""
MIX = np.uint64(0x9E3779B97F4A7C15)

Hashes = npt.NDArray[np.uint64]


def minhash_signatures(texts: Sequence[str], salts: Sequence[int] | None = None) -> Hashes:
    """Return signatures of shape (texts, BANDS + HASHES * BANDS / 8): a hash of each band, then a byte of each hash.

    salts: numbers of 64 bits that tell texts apart which are about different things, such as their images.
    """
    shingles = [_shingles(text) for text in texts]
    if salts is not None and any(salts):
        shingles = [row ^ np.uint64(salt) for row, salt in zip(shingles, salts, strict=True)]
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


def find_near_duplicates(
    signatures: Hashes, text: Callable[[int], str], similarity: float
) -> dict[int, tuple[int, float]]:
    """Map each near duplicate of an earlier row that is kept to that row and their Jaccard similarity.

    A near duplicate has at least ``similarity``. ``text`` gives a row's text; it is called for candidates only.
    """
    duplicates: dict[int, tuple[int, float]] = {}
    for earlier, later in _likely_pairs(signatures, similarity - SLACK).tolist():
        if earlier in duplicates or later in duplicates:
            continue
        measured = jaccard(text(earlier), text(later))
        if measured >= similarity:
            duplicates[later] = earlier, measured
    return duplicates


def jaccard(first: str, second: str) -> float:
    """Return the Jaccard similarity of two texts: shared shingles as a share of all."""
    a, b = np.unique(_shingles(first)), np.unique(_shingles(second))
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


def _shingles(text: str) -> Hashes:
    """Return every run of SHINGLE bytes; the runs at the end are padded with zeros."""
    data = text.encode() or b" "
    return np.ndarray((len(data),), "<u8", data + bytes(SHINGLE), 0, (1,))


def _likely_pairs(signatures: Hashes, minimum: float) -> npt.NDArray[np.intp]:
    """Return the candidate pairs that agree in at least this share of their hashes."""
    pairs = _candidate_pairs(signatures[:, :BANDS])
    sketch = np.ascontiguousarray(signatures[:, BANDS:]).view(np.uint8)
    chunks = np.array_split(pairs, len(pairs) // 100_000 + 1)
    likely: list[npt.NDArray[np.bool_]] = [
        (sketch[chunk[:, 0]] == sketch[chunk[:, 1]]).mean(axis=1) >= minimum for chunk in chunks
    ]
    return pairs[np.concatenate(likely)]


def _candidate_pairs(bands: Hashes) -> npt.NDArray[np.intp]:
    """Return pairs (earlier row, later row) that agree in a band, in the order of the later row."""
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


def same_keys(keys: Hashes) -> Iterator[list[int]]:
    """Yield the positions of each key that occurs more than once, in ascending order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(keys) else np.empty(0, int)
    ends = np.append(starts[1:], len(keys))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        yield order[start:end].tolist()


def contradictions(prompts: Hashes, row: Callable[[int], Row], aside: Collection[int]) -> dict[int, int]:
    """Map the position of each row that contradicts another with the same prompt to the other's.

    prompts: a key of each row's prompt. row: gives a row. aside: positions of rows that are not compared.
    """
    found: dict[int, int] = {}
    for group in same_keys(prompts):
        found |= find_contradictions({position: row(position) for position in group if position not in aside})
    return found


def find_contradictions(rows: dict[int, Row]) -> dict[int, int]:
    """Map the position of each contradicting row to that of a row it contradicts. ``rows`` share one prompt.

    All sides of a contradiction are named, since nothing tells which is right. The time is linear in the rows.
    """
    if len(rows) < 2:
        return {}
    if any("chosen" in row for row in rows.values()):
        return _reversed_pairs(rows)
    if any(isinstance(row.get("label"), bool) for row in rows.values()):
        return _opposite_marks(rows)
    first, *others = rows
    different = {position: first for position in others if not _same_answer(rows[first], rows[position])}
    if not different:
        return {}
    return {position: different.get(position, next(iter(different))) for position in rows}


def _same_answer(first: Row, second: Row) -> bool:
    """Tell whether two rows have the same answer: by the verifier that the first names, or else as normalised text.

    Rows of which one has no answer of its own must be equal but for their ids.
    """
    if not all(row.keys() & {"reference", "completion"} for row in (first, second)):
        return {**first, "id": ""} == {**second, "id": ""}
    name = first.get("verifier", "")
    gold = catalog.gold(name, first) if name in catalog.VERIFIERS else None
    if gold is None:
        return splits.normalise(reference(first)) == splits.normalise(reference(second))
    return catalog.verify(name, gold, second).score == 1


def _opposite_marks(rows: dict[int, Row]) -> dict[int, int]:
    """Map each mark to one of the same answer that says the opposite."""
    sides = {position: (ready_rows.dumps(row["completion"]), row["label"]) for position, row in rows.items()}
    positions = {mark: position for position, mark in sides.items()}
    return {
        position: positions[answer, not good]
        for position, (answer, good) in sides.items()
        if (answer, not good) in positions
    }


def _reversed_pairs(rows: dict[int, Row]) -> dict[int, int]:
    """Map each pair to another that prefers the opposite."""
    sides = {
        position: (ready_rows.dumps(row["chosen"]), ready_rows.dumps(row["rejected"])) for position, row in rows.items()
    }
    positions = {pair: position for position, pair in sides.items()}
    return {
        position: positions[rejected, chosen]
        for position, (chosen, rejected) in sides.items()
        if (rejected, chosen) in positions
    }
