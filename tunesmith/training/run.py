"""One training from start to end, whatever the objective: journal, checkpoints, checks of its outcome, atomic save."""

import errno
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypedDict

from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
)

from tunesmith.core import checkpoints, console, files, journal, lineage, manifest, processes
from tunesmith.core.checkpoints import Checkpoint, Store
from tunesmith.core.errors import TrainingError
from tunesmith.core.journal import Journal
from tunesmith.models import collectives, saving, weights
from tunesmith.models.device import Profile, keep_freed_memory
from tunesmith.models.loading import OpenModel
from tunesmith.training import checks, fit, optimizers, sharding
from tunesmith.training import spec as specs
from tunesmith.training.checkpointer import Checkpointer, made_by
from tunesmith.training.entries.common import Entry
from tunesmith.training.entries.online import Online
from tunesmith.training.journal_callback import Recorder
from tunesmith.training.spec import TrainingSpec
from tunesmith.training.trainer_config import one_precision, patch_trl, record_batches, set_decay
from tunesmith.training.validation import Validator
from tunesmith.training.watch import Watch, answer_probes, check_end, measure_start


def train(
    trainer: Trainer,
    policy: OpenModel,
    spec: TrainingSpec,
    watch: Watch,
    profile: Profile,
    *,
    tokens_of: Mapping[str, int] | None = None,
) -> None:
    """Run ``trainer`` and save its model to ``spec.out``, whole or not at all.

    One that was killed goes on from its newest checkpoint. tokens_of: the tokens of each row that the trainer records,
    padding not counted; by default, those count that the policy read and wrote.
    Raises TrainingError where a check of `training.checks` or `training.journal_callback` fails; nothing is saved then.
    Raises ResourceError where the disk has no room for a checkpoint, or the device too little memory. Raises BusyError
    while another process trains this.
    """
    model = trainer.model
    _prepare(trainer, spec, profile)
    origin = collectives.once(lambda: specs.lineage_of(policy, spec, profile))
    with _places(spec, checkpoints.key(origin, spec.also)) as (store, work):
        with Journal(work / journal.NAME) as log:
            for name, text in watch.files.items():
                files.write_text(store.folder / name, text)
            checkpoint = collectives.once(store.newest)
            if checkpoint is None:
                log.write("start", **specs.about(spec, policy, profile))
            else:
                log.repeat(journal.read(checkpoint.folder / journal.NAME))
                exact = profile.device == "cpu" and spec.engine is None and made_by(checkpoint) == processes.count()
                log.write("resume", step=checkpoint.step, exact=exact)
                print(f"  going on from the checkpoint of step {checkpoint.step}", flush=True)
            with _memory_suffices(spec, policy, profile):
                used = _train_and_check(trainer, policy, spec, watch, profile, log, store, checkpoint, tokens_of or {})
            _save(model, policy, origin, spec.out.name, work)
            trainable, total = weights.count_parameters(model)
            log.write(
                "end",
                **used,
                trainable_parameters=trainable,
                total_parameters=total,
                costs=specs.costs(spec) | {spec.out.name: used["seconds"]},
            )
        if processes.is_first():
            manifest.write(work)
    collectives.wait()


def _prepare(trainer: Trainer, spec: TrainingSpec, profile: Profile) -> None:
    """Fit a trainer to its optimizer, to the other processes, and to a CPU."""
    optimizers.prepare(trainer, spec.entry.optimizer)
    config = trainer.model.config
    text = config.get_text_config()  # without experts and pictures, every weight takes part in every step
    partial = text is not config or getattr(text, "num_experts_per_tok", None)
    trainer.args.ddp_find_unused_parameters = bool(partial)
    if profile.sharded:  # gradients are sharded after every batch: whole ones, kept to the step's end, may not fit
        assert hasattr(trainer, "_defer_fsdp_gradient_reduction")  # transformers 5.24
        trainer._defer_fsdp_gradient_reduction = nullcontext
    if profile.device == "cpu":
        keep_freed_memory()
        patch_trl()


@contextmanager
def _places(spec: TrainingSpec, key: str) -> Iterator[tuple[Store, Path]]:
    """The store of the training's checkpoints, and the folder that becomes the model.

    What other processes than the first write is scratch, so that all run the same code. Raises BusyError.
    """
    if processes.is_first():
        with checkpoints.opened(spec.out.name, key) as store, files.new_folder(spec.out) as work:
            yield store, work
    else:
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch, spec.out.name)
            work.mkdir()
            yield Store(Path(scratch, key)), work


def closing_line(spec: TrainingSpec) -> str:
    """One line about a finished training, for its stage to print; nothing in other processes than the first."""
    if not processes.is_first():
        return ""
    end = journal.first(journal.read(spec.out / journal.NAME), "end")
    digest = manifest.read(spec.out).weights_digest[:12]
    return f"{spec.out}: {spec.rows} rows, {end['steps']} steps in {end['seconds']:.0f} s, weights {digest}"


@contextmanager
def _memory_suffices(spec: TrainingSpec, policy: OpenModel, profile: Profile) -> Iterator[None]:
    """Raise ResourceError, with what to lower, where the device runs out of memory."""
    try:
        yield
    except Exception as error:
        if (exhausted := console.out_of_memory(error)) is None:
            raise
        raise fit.out_of_memory(exhausted, spec, policy, profile) from error


def _reused(entry: Entry) -> int:
    """The steps on the same completions, which TRL's trainers would write anew after a resume."""
    return entry.num_iterations if isinstance(entry, Online) else 1


def _check_patience(spec: TrainingSpec, watch: Watch) -> None:
    """Raise TrainingError where a training is to stop by measurements that there are none of."""
    if spec.entry.patience is not None and watch.measure is None:
        raise TrainingError(
            f"{spec.objective}.{spec.out.name}.patience: the validation split has no rows to measure, so that nothing "
            "would stop the training",
            fix="give it some (data.<dataset>.splits; KTO needs good and bad ones), or set patience to null",
        )


class Used(TypedDict):
    """The part of the journal's `end` that the steps determine."""

    steps: int
    kept: int
    tokens: int
    seconds: float
    checkpoint_seconds: float
    peak_memory_bytes: int


def _train_and_check(
    trainer: Trainer,
    policy: OpenModel,
    spec: TrainingSpec,
    watch: Watch,
    profile: Profile,
    log: Journal,
    store: Store,
    checkpoint: Checkpoint | None,
    tokens_of: Mapping[str, int],
) -> Used:
    """Train, and leave the weights to keep in the trainer's model. Raises TrainingError where a check fails."""
    _check_patience(spec, watch)
    model = trainer.model
    frozen, trained = weights.digests(model, trained=False), weights.digests(model, trained=True)
    validator = Validator(log, watch.measure, spec.entry, store)
    set_decay(trainer, spec.entry)
    record_batches(trainer)
    saver = Checkpointer(store, log, validator, profile, trainer.data_collator, tokens_of, every=_reused(spec.entry))
    online = isinstance(spec.entry, Online)
    recorder = Recorder(
        log, watch.rows_of, max_kl=watch.max_kl, max_drift=watch.max_drift, epochs=watch.epochs, online=online
    )
    if checkpoint is None:
        measure_start(log, model, policy.tokenizer, watch, validator, saver)
    else:
        saver.go_on(checkpoint)
        recorder.steps = journal.steps(journal.read(log.path))
    _run(trainer, [recorder, validator, saver], checkpoint, saver)
    step = trainer.state.global_step
    used = Used(
        steps=step,
        kept=validator.keep(model, step),
        tokens=saver.tokens(step) if tokens_of else trainer.state.num_input_tokens_seen,
        seconds=saver.seconds,
        checkpoint_seconds=saver.checkpoint_seconds,
        peak_memory_bytes=max(collectives.gathered(saver.peak_memory_bytes)),
    )
    if not sharding.is_divided(model):
        checks.check_agree(collectives.gathered(weights.digests(model, trained=True)))
    _check_steps(spec, recorder.steps, saver, trainer.state)
    checks.check_weights_moved(
        spec.entry.weights,
        (frozen, weights.digests(model, trained=False)),
        (trained, weights.digests(model, trained=True)),
    )
    checks.check_answers_moved(saver.answers, answer_probes(log, "after", model, policy.tokenizer, watch.probes))
    end = watch.measure and (validator.measured.get(used["kept"]) or watch.measure())
    check_end(log, recorder.steps, saver.start, end, online=online)
    return used


def _check_steps(spec: TrainingSpec, steps: list[dict[str, float]], saver: Checkpointer, state: TrainerState) -> None:
    """Raise TrainingError where the steps taught nothing, or a training to its last step left rows out."""
    checks.check_steps(steps, online=isinstance(spec.entry, Online))
    checks.check_signal(steps)
    if spec.examples and state.global_step == state.max_steps:
        checks.check_rows(spec.examples, saver.rows(state.global_step))


def _run(
    trainer: Trainer, callbacks: list[TrainerCallback], checkpoint: Checkpoint | None, saver: Checkpointer
) -> None:
    """Train from the start, or from a checkpoint. Raises ResourceError where the disk is full."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    for callback in callbacks:
        trainer.add_callback(callback)
    if sharding.is_divided(trainer.model):
        sharding.keep_transformers_from_loading(trainer)
    try:
        with one_precision(trainer):
            trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint.folder))
    except (OSError, RuntimeError, SafetensorError) as error:  # RuntimeError: from torch's own writer
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if is_full or (processes.is_first() and not saver.store.has_room(saver.bytes)):
            raise saver.store.no_room(f"writing failed with {saver.store.free()} free ({error})") from error
        raise


def _save(
    model: PreTrainedModel | PeftModel, policy: OpenModel, origin: lineage.Lineage, name: str, folder: Path
) -> None:
    """Save the model ``name`` into a folder."""
    if not isinstance(model, PeftModel):
        saving.save_model(model, folder)  # by all processes, where each has a part
    if not processes.is_first():
        return
    if isinstance(model, PeftModel):
        saving.save_adapter(model, folder, origin, policy.full_weights)
    saving.save_reader(policy, folder)
    saving.write_card(folder, name, origin)
    (folder / lineage.NAME).write_text(json.dumps(origin, indent=2) + "\n")
