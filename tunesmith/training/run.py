"""One training from start to end, whatever the objective: the journal, the checks of its outcome, the atomic save."""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, ProgressCallback, Trainer

from tunesmith.core import files, journal, lineage, manifest, ready_rows
from tunesmith.core.journal import Journal
from tunesmith.core.manifest import Manifest
from tunesmith.core.params import WeightsKind
from tunesmith.core.ready_rows import Row
from tunesmith.models import generation, saving, weights
from tunesmith.models.device import Profile, keep_freed_memory, peak_memory_bytes
from tunesmith.models.loading import OpenModel
from tunesmith.training import checks
from tunesmith.training import spec as specs
from tunesmith.training.checks import Preference, RightAnswers
from tunesmith.training.journal_callback import Recorder, RowsOfStep
from tunesmith.training.spec import TrainingSpec
from tunesmith.training.trainer_config import one_precision, patch_trl

PROBE_TOKENS = 32
"""Longest answer to a probe prompt."""
SHOWN = 4
"""Answers to probe prompts that are printed; all are in the journal."""


@dataclass(frozen=True)
class Watch:
    """The measurements of a training before, during and after its steps. Those left out are not taken."""

    probes: list[Row] = field(default_factory=list)
    """Rows whose prompts are answered before and after the training; empty for a reward model."""
    rows_of: RowsOfStep = lambda step: []
    """The rows of a step, for errors."""
    right_answers: Callable[[], RightAnswers | None] | None = None
    """Measures what the model makes of right answers to the probes."""
    prefers: Callable[[], Preference] | None = None
    """Measures the preference over held-out pairs."""
    preferred: Preference | None = None
    """The preference over held-out pairs at the start, where it is known without measuring."""
    max_kl: float | None = None
    """The KL divergence to the reference policy, in nats a token, above which the training stops."""
    signal: dict[str, float] | None = None
    """The journal's `signal` event, where the reward was probed."""


def train(
    trainer: Trainer,
    policy: OpenModel,
    spec: TrainingSpec,
    watch: Watch,
    profile: Profile,
    *,
    tokens: int | None = None,
) -> Manifest:
    """Run ``trainer`` and save its model to ``spec.out``, whole or not at all.

    tokens: the number of tokens that the run trains on, padding not counted; by default, of those that the policy read
    and wrote.
    Raises TrainingError where a check of `training.checks` or `training.journal_callback` fails; nothing is saved then.
    """
    model = trainer.model
    if profile.device == "cpu":
        keep_freed_memory()
        patch_trl()
    origin = specs.lineage_of(policy, spec, profile)
    with files.new_folder(spec.out) as work:
        with Journal(work / journal.NAME) as log:
            log.write("start", key=uuid.uuid4().hex, **specs.about(spec, profile))
            seconds = _train_and_check(trainer, log, policy.tokenizer, spec.entry.weights, watch)
            _save(model, policy, origin, work)
            saving.write_card(work, spec.out.name, origin)
            trainable, total = weights.count_parameters(model)
            log.write(
                "end",
                steps=trainer.state.global_step,
                seconds=seconds,
                tokens=trainer.state.num_input_tokens_seen if tokens is None else tokens,
                peak_memory_bytes=peak_memory_bytes(profile),
                trainable_parameters=trainable,
                total_parameters=total,
                costs=specs.costs(spec) | {spec.out.name: seconds},
            )
        return manifest.write(work)


def closing_line(spec: TrainingSpec) -> str:
    """One line about a finished training, for its stage to print."""
    end = journal.first(journal.read(spec.out / journal.NAME), "end")
    digest = manifest.read(spec.out).weights_digest[:12]
    return f"{spec.out}: {spec.rows} rows, {end['steps']} steps in {end['seconds']:.0f} s, weights {digest}"


def _train_and_check(
    trainer: Trainer, log: Journal, tokenizer: PreTrainedTokenizerBase, kind: WeightsKind, watch: Watch
) -> float:
    """Train, and return the seconds it took. Raises TrainingError where a check fails."""
    model = trainer.model
    frozen, trained = weights.digests(model, trained=False), weights.digests(model, trained=True)
    if watch.signal is not None:
        log.write("signal", **watch.signal)
    answers = _answer_probes(log, "before", model, tokenizer, watch.probes)
    preferred = _held_out(log, "before", watch.preferred or (watch.prefers and watch.prefers()))
    right = watch.right_answers and watch.right_answers()
    began = time.monotonic()
    steps = _run(trainer, log, watch)
    seconds = time.monotonic() - began
    checks.check_steps(steps)
    checks.check_weights_moved(
        kind,
        (frozen, weights.digests(model, trained=False)),
        (trained, weights.digests(model, trained=True)),
    )
    checks.check_answers_moved(answers, _answer_probes(log, "after", model, tokenizer, watch.probes))
    right_after = watch.right_answers and watch.right_answers()
    after = _held_out(log, "after", watch.prefers and watch.prefers())
    surprises = _surprise(right or preferred), _surprise(right_after or after)
    checks.check_not_ruined(*surprises)
    if right_after is not None:
        checks.check_stops(right_after.ends)
    if after is not None:
        checks.check_prefers(after)
    for text in checks.warnings(steps, after, surprises):
        log.write("warning", text=text)
        print(f"  warning: {text}")
    return seconds


def _surprise(measured: RightAnswers | Preference | None) -> float | None:
    return None if measured is None else measured.surprise


def _run(trainer: Trainer, log: Journal, watch: Watch) -> list[dict[str, float]]:
    """Train, and return the steps as they were logged."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    recorder = Recorder(log, watch.rows_of, max_kl=watch.max_kl)
    trainer.add_callback(recorder)
    with one_precision(trainer):
        trainer.train()
    return recorder.steps


def _answer_probes(
    log: Journal,
    when: str,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Row],
) -> list[str]:
    answers = generation.answer(model, tokenizer, rows, max_new_tokens=PROBE_TOKENS)
    for row, completion in zip(rows, answers, strict=True):
        log.write("sample", when=when, **ready_rows.asked(row), completion=completion)
    for row, completion in zip(rows[:SHOWN], answers, strict=False):
        print(f"  {when}: {row['prompt'][-1]['content'][:80]!r} -> {completion[:80]!r}")
    return answers


def _held_out(log: Journal, when: str, measured: Preference | None) -> Preference | None:
    if measured is None:
        return None
    log.write("held_out", when=when, **asdict(measured))
    interval = f"[{100 * measured.low:.1f}, {100 * measured.high:.1f}]"
    print(
        f"  {when}: {100 * measured.accuracy:.1f}% {interval} of {measured.pairs} held-out pairs preferred as labelled"
    )
    return measured


def _save(
    model: PreTrainedModel | PeftModel,
    policy: OpenModel,
    origin: lineage.Lineage,
    folder: Path,
) -> None:
    if isinstance(model, PeftModel):
        saving.save_adapter(model, folder, origin, policy.full_weights)
    else:
        saving.save_model(model, folder)
    policy.tokenizer.save_pretrained(folder)
    (folder / lineage.NAME).write_text(json.dumps(origin, indent=2) + "\n")
