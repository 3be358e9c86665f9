"""What a job leaves: its outputs in the staging folder, and a line about the bytes that travelled."""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.core import dvc_store, formatting
from tunesmith.core.dvc_store import JOBS, Store, Tree
from tunesmith.core.errors import ClusterError
from tunesmith.runtime.cluster import evaluation_shares
from tunesmith.runtime.cluster.evaluation_shares import SCORES
from tunesmith.runtime.cluster.job import Done, Job
from tunesmith.runtime.staging import Staging


@dataclass
class Travelled:
    """Bytes that went over the wire.

    parcel: code and params. put: inputs, from here to the store. fetched: inputs, from the store to nodes. made:
    outputs that the nodes put into the store. taken: outputs, from the store to here.
    """

    parcel: int
    nodes: int = 0
    workers: int = 1
    restarts: int = 0
    put: int = 0
    fetched: int = 0
    made: int = 0
    taken: int = 0
    inputs: Tree = field(default_factory=dict)

    def line(self) -> str:
        """The closing line of a stage, for the user."""
        again = "" if not self.restarts else " once" if self.restarts == 1 else f" {self.restarts} times"
        workers = f"{_count(self.workers, 'worker')} on a cluster of {self.nodes}"
        workers += f", started again{again}" if again else ""
        size = formatting.size
        return (
            f"  ray: {workers}; code and params {size(self.parcel)}; {_count(len(self.inputs), 'input')} of "
            f"{size(dvc_store.size(self.inputs))} by digest, {size(self.put)} of them sent from here, "
            f"{size(self.fetched)} fetched by nodes; outputs: {size(self.made)} sent, {size(self.taken)} taken home"
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def fetch(parts: Sequence[Done], names: Sequence[str], job: Job, store: Store, staging: Staging) -> int:
    """Bring the outputs that differ from what is here into the staging folder; return the bytes taken from the store.

    parts: of a stage that was divided, else one. names: the models of an evaluation in order. Where a share failed, the
    scores stay, and so do the reports that it did not bring. Raises ClusterError for an output that the store has lost,
    and for a name that leads out of the folder.
    """
    failed = any(part.status for part in parts)
    outs = parts[0].outs if len(parts) == 1 else evaluation_shares.merge([part.outs for part in parts])
    _check_names(outs)
    taken = 0
    for out in map(Path, job.outs):
        made = {name: digest for name, digest in outs.items() if Path(name).is_relative_to(out)}
        kept = {name: digest for name, digest in job.inputs.items() if Path(name).is_relative_to(out)}
        if failed and len(parts) > 1:
            made = kept | made
        if made in (kept, {}):
            continue
        place = staging.folder / out
        if place.is_dir():
            shutil.rmtree(place)
        with ThreadPoolExecutor(JOBS) as pool:
            taken += sum(pool.map(lambda item: _take(store, item, staging.folder), made.items()))
    if len(parts) > 1 and not failed:
        _merge_scores(parts, names, store, staging.folder)
    return taken


def _check_names(outs: Tree) -> None:
    """Raise ClusterError for a name that no stage's output has: a node says it, and this machine writes there."""
    for name in outs:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ClusterError(
                f"{name}: an output of the cluster with a path that leads out of the project is refused",
                fix="no stage of ours writes that: find out what else runs on the nodes",
            )


def _take(store: Store, item: tuple[str, dvc_store.Digest], folder: Path) -> int:
    name, digest = item
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    store.get(digest, path)
    return digest.size


def _merge_scores(parts: Sequence[Done], names: Sequence[str], store: Store, folder: Path) -> None:
    """Write the scores of all shares as one file."""
    texts = []
    for part in parts:
        if SCORES in part.outs:
            _take(store, (SCORES, part.outs[SCORES]), folder)
            texts.append((folder / SCORES).read_bytes())
    (folder / SCORES).unlink(missing_ok=True)
    (folder / SCORES).write_bytes(evaluation_shares.scores(texts, names))
