"""Bring the checkpoints of a training to the store as they appear, so that any node can go on from the newest.

A checkpoint appears complete (`core.checkpoints`), and so does its copy: home hears of it when all of its files are in
the store. A reader checks the digest of each file, and the training verifies the checkpoint's own manifest once more.
"""

import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from tunesmith.core import checkpoints
from tunesmith.core.dvc_store import Store, Tree, plain_tree
from tunesmith.runtime.cluster.job import Event, Job, Note, Saved

POLL_SECONDS = 0.5


class CheckpointRelay:
    """Watches the checkpoints of a training in a workspace, in a thread of its own."""

    def __init__(self, job: Job, saved: Saved, store: Store, workspace: Path) -> None:
        """saved: the checkpoint that this attempt goes on from, which stays until two newer ones are there."""
        self.job, self.part, self.workspace = job, saved.part, workspace
        self.store = Store(store.address, saved.part)
        self._events: list[Event] = []
        self._before: Tree = dict(saved.files)
        self._sent = _newest(workspace, str(job.model))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @staticmethod
    def lay_out(saved: Saved, job: Job, workspace: Path) -> None:
        """Put a checkpoint where the training looks for one. Raises ClusterError where the store has lost a file."""
        store = Store(job.store, saved.part)
        for name, digest in saved.files.items():
            path = workspace / name
            path.parent.mkdir(parents=True, exist_ok=True)
            store.get(digest, path)

    def new(self) -> list[Event]:
        """What happened since the last call: a checkpoint in the store, or a failure to bring it there."""
        events, self._events = self._events, []
        return events

    def kept(self) -> bool:
        """Whether the training left a checkpoint; one that cannot be resumed leaves none."""
        return _newest(self.workspace, str(self.job.model)) is not None

    def close(self) -> None:
        """Stop watching. A transfer in flight is not waited for."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            newest = _newest(self.workspace, str(self.job.model))
            if newest is None or newest == self._sent:
                continue
            try:
                with suppress(FileNotFoundError):  # a newer one has taken its place
                    self._send(newest)
            except Exception as error:  # a remote's own library has more kinds; the next checkpoint may get there
                self._events.append(Note(f"note: a checkpoint was not copied to the store: {error}"))
            self._sent = newest

    def _send(self, newest: Path) -> None:
        files = plain_tree(self.workspace, [newest.relative_to(self.workspace)])
        sources = {digest: self.workspace / name for name, digest in files.items()}
        with tempfile.TemporaryDirectory(dir=self.workspace) as scratch:  # of those that the training may write again
            for path in (path for path in newest.parent.iterdir() if path.is_file() and path.name[0] != "."):
                shutil.copyfile(path, Path(scratch, path.name))
                ((_, digest),) = plain_tree(Path(scratch), [Path(path.name)]).items()
                files[path.relative_to(self.workspace).as_posix()] = digest
                sources[digest] = Path(scratch, path.name)
            self.store.put(sources)
        step = int(newest.name.removeprefix("step-"))
        self._events.append(Saved(self.part, step, files))
        self.store.keep_only([*files.values(), *self._before.values()])
        self._before = files


def _newest(workspace: Path, model: str) -> Path | None:
    """The newest checkpoint of the model's training; None before the first."""
    found = [
        path
        for kind in (checkpoints.HOST, checkpoints.CONTAINERS)
        for path in (workspace / kind / model).glob("*/step-*")
        if path.name.removeprefix("step-").isdecimal()
    ]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
