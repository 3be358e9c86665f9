"""Home's end of a job: what the nodes report becomes output, a journal to follow, and a record of checkpoints."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import assert_never

from tunesmith.core import files, journal, layout
from tunesmith.core.dvc_store import Digest, Store
from tunesmith.core.errors import BusyError
from tunesmith.registry.attempts import Running
from tunesmith.runtime import finished_runs, journal_follower
from tunesmith.runtime.cluster.job import Attempt, Done, Event, Fetched, Lines, Note, Output, Saved
from tunesmith.runtime.container_journals import followed
from tunesmith.runtime.staging import Staging

CHECKPOINTS = layout.CHECKPOINTS / "ray"
"""The folder of what is known of checkpoints in the store, by model and by the inputs of its training."""


class Course:
    """The course of a job. fetched: bytes that nodes took from the store. failed: the first failure of a rank."""

    def __init__(self, staging: Staging, model: str | None) -> None:
        self.staging, self.model = staging, model
        self.fetched, self.restarts = 0, -1
        self.failed: Done | None = None
        self.ended: Done | None = None
        self._own = self._part = f"checkpoints/{staging.run}"
        self._has_reason = False
        self._attempt: Running | None = None
        self._context = ExitStack()
        inputs = finished_runs.inputs(staging.root) if model else None
        self.record = layout.home(staging.root) / CHECKPOINTS / str(model) / f"{inputs}.json" if inputs else None

    def saved(self) -> Saved:
        """The checkpoint in the store that an earlier run on the same inputs left; else none, in a part of its own."""
        if self.record is not None and self.record.exists():
            kept = json.loads(self.record.read_text())
            self._part = kept["part"]
            return Saved(self._part, kept["step"], {name: Digest(*digest) for name, digest in kept["files"].items()})
        return self.anew()

    def anew(self) -> Saved:
        """No checkpoint, in a part of this run's own."""
        self._part = self._own
        return Saved(self._part)

    def still_saved(self, store: Store) -> Saved:
        """As `saved`; none where the store has lost it, or is another than before."""
        saved = self.saved()
        if saved.files and store.beside(saved.part).lacks(saved.files.values()):
            where = f"the checkpoint of step {saved.step} is not in {store.address.url}"
            print(f"note: {where}: {self.model} begins anew", file=sys.stderr)
            self.forget()
            return self.anew()
        return saved

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one that trains on these inputs, here or in an experiment: there is one record of checkpoints.

        Raises BusyError where another does.
        """
        with ExitStack() as lock:
            if self.record is not None:
                try:
                    lock.enter_context(files.only_writer(self.record))
                except BusyError as error:
                    raise BusyError(
                        f"{self.model}: the same training runs already, here or in an experiment ({error.reason})",
                        fix=error.fix,
                    ) from None
            yield

    def take(self, events: list[Event]) -> None:
        """Handle the events that the nodes reported, in order."""
        for event in events:
            match event:
                case Output():
                    output = (sys.stdout if event.stream == 1 else sys.stderr).buffer
                    output.write(event.data)
                    output.flush()
                case Lines():
                    self._add_lines(event)
                case Attempt():
                    self._begin(event)
                case Saved():
                    self._keep(event)
                case Fetched():
                    self.fetched += event.size
                case Note():
                    print(event.text, file=sys.stderr, flush=True)
                case Done():
                    self._end(event)
                case _:
                    assert_never(event)

    def close(self, *, well: bool) -> None:
        """Stop following the journal. well: whether the training ended well."""
        if self._attempt is not None and well:
            self._attempt.end_well()
        self._context.close()

    def forget(self) -> None:
        """Remove the record of the checkpoint, since the model is done."""
        if self.record is not None:
            self.record.unlink(missing_ok=True)

    @property
    def journal(self) -> Path:
        """The copy of the training's journal that is followed."""
        return self.staging.folder / layout.MODELS / f".{self.model}.partial" / journal.NAME

    def _begin(self, attempt: Attempt) -> None:
        """A group of workers starts, the first or one in place of another: its journal is that of a new attempt."""
        self.restarts += 1
        if self.model is None:
            return
        if self.restarts:
            since = f"goes on from the checkpoint of step {attempt.step}" if attempt.step else "starts again"
            print(f"note: a worker was lost; {self.model} {since} on {', '.join(attempt.nodes)}", file=sys.stderr)
        self._context.close()
        shutil.rmtree(self.journal.parent, ignore_errors=True)
        self.journal.parent.mkdir(parents=True)
        self.staging.run = attempt.run
        recorded = journal_follower.recorded(self.staging.root, self.model, attempt.run)
        self._attempt = self._context.enter_context(recorded)
        locks = [self._attempt.lock] if self._attempt else []
        self._context.enter_context(followed(self.staging.folder, self.staging.outputs, attempt.run, locks))

    def _add_lines(self, lines: Lines) -> None:
        if lines.run == self.staging.run:
            with self.journal.open("ab") as file:
                file.write(lines.data)

    def _keep(self, saved: Saved) -> None:
        if self.record is None:
            return
        if not saved.files:
            self.record.unlink(missing_ok=True)
            return
        kept = {"part": self._part, "step": saved.step, "files": saved.files}  # home chose the part, and removes it
        files.write_text(self.record, json.dumps(kept) + "\n")

    def _end(self, done: Done) -> None:
        """Take the end of a rank.

        The first failure is shown; where it had no words, as the first rank has none, so is an error of our own.
        """
        first = self.failed is None
        if done.status and (first or (not self._has_reason and "\nerror: " in f"\n{done.last_words}")):
            self.failed = self.failed or done
            self._has_reason = bool(done.last_words)
            if done.last_words:
                rank = f"rank {done.rank}: " if done.rank else ""
                print(f"{rank}{done.last_words}".rstrip(), file=sys.stderr, flush=True)
        if done.rank == 0:
            self.ended = done
