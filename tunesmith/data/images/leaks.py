"""Images that rows of several splits share: a model that has seen one is not judged by it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

Shown = tuple[Sequence[str], int]
"""The digests of a row's images, and the key of its group."""
COMMON = 5
"""An image of more groups than this, such as a logo or an example in every prompt, tells nothing."""


def find(held_out: Sequence[Shown], training: Iterable[Shown]) -> dict[int, int]:
    """Map each training row that shares an image with a held-out row to that row, both by position."""
    owners: dict[str, int] = {}
    groups: dict[str, set[int]] = defaultdict(set)
    for position, (digests, group) in enumerate(held_out):
        for digest in digests:
            owners.setdefault(digest, position)
            groups[digest].add(group)
    sharing: list[tuple[int, str]] = []
    for position, (digests, group) in enumerate(training):
        for digest in digests:
            if digest in owners:
                sharing.append((position, digest))
                groups[digest].add(group)
    return {position: owners[digest] for position, digest in reversed(sharing) if len(groups[digest]) <= COMMON}
