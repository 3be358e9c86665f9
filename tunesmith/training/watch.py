"""What is measured around the steps of a training: answers to probe prompts, and held-out rows before and after."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.core import ready_rows
from tunesmith.core.journal import Journal
from tunesmith.core.ready_rows import Row
from tunesmith.models import generation
from tunesmith.models.images import parts
from tunesmith.training import checks
from tunesmith.training.checkpointer import Checkpointer
from tunesmith.training.journal_callback import RowsOfStep
from tunesmith.training.measurements import Graded, Measurement, Preference, RightAnswers
from tunesmith.training.validation import Validator

PROBE_TOKENS = 32
"""Longest answer to a probe prompt."""
UNMEASURED = (
    "  no validation rows: the last step is kept, and nothing shows how the model does on rows that it did not learn; "
    "data.<dataset>.splits gives it some"
)
SHOWN = 4
"""Answers to probe prompts that are printed; all are in the journal."""


@dataclass(frozen=True)
class Watch:
    """The measurements of a training before, during and after its steps. Those left out are not taken."""

    probes: list[Row] = field(default_factory=list)
    """Rows whose prompts are answered before and after the training; empty for a reward model."""
    rows_of: RowsOfStep = lambda step: []
    """The rows of a step, for errors."""
    measure: Callable[[], Measurement] | None = None
    """Measures the model on the validation split; None where that has no rows."""
    start: Measurement | None = None
    """The measurement at the start, where it is known without measuring."""
    max_kl: float | None = None
    """The KL divergence to the reference policy, in nats a token, above which the training stops."""
    max_drift: float | None = None
    """The difference between the log-probabilities of the engine that wrote the completions and the training's, in nats
    a token, above which the training stops."""
    signal: dict[str, float] | None = None
    """The journal's `signal` event, where the reward was probed."""
    epochs: float = 1
    """Passes over the rows in one epoch of the trainer, whose data set may hold each row several times."""
    files: dict[str, str] = field(default_factory=dict)
    """The contents of files, by name, that stay beside the checkpoints until the training is done."""


def measure_start(
    log: Journal,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    watch: Watch,
    validator: Validator,
    saver: Checkpointer,
) -> None:
    """Measure the model before its first step; ``saver`` keeps what is compared with its end."""
    if watch.signal is not None:
        log.write("signal", **watch.signal)
    saver.answers = answer_probes(log, "before", model, tokenizer, watch.probes)
    saver.start = watch.start or (watch.measure and watch.measure())
    if saver.start is None:
        print(UNMEASURED)
    else:
        validator.write(0, saver.start)
        _show(log, "before", saver.start)


def check_end(
    log: Journal,
    steps: list[dict[str, float]],
    start: Measurement | None,
    end: Measurement | None,
    *,
    online: bool,
) -> None:
    """Raise TrainingError where held-out rows show that the training failed; write warnings to the journal."""
    if end is not None:
        _show(log, "after", end)
    surprises = _surprise(start), _surprise(end)
    checks.check_not_ruined(*surprises)
    if isinstance(end, RightAnswers):
        checks.check_stops(end.ends)
    if isinstance(end, Preference):
        checks.check_prefers(end)
    for text in checks.warnings(steps, end if isinstance(end, Preference) else None, surprises, online=online):
        log.write("warning", text=text)
        print(f"  warning: {text}")


def answer_probes(
    log: Journal,
    when: str,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Row],
) -> list[str]:
    """The model's greedy answers to ``rows``, written to the journal; the first few are printed."""
    answers = generation.answer(model, tokenizer, rows, max_new_tokens=PROBE_TOKENS)
    for row, completion in zip(rows, answers, strict=True):
        log.write("sample", when=when, **ready_rows.asked(row), completion=completion)
    for row, completion in zip(rows[:SHOWN], answers, strict=False):
        print(f"  {when}: {parts.shown(row['prompt'][-1])[:80]!r} -> {completion[:80]!r}")
    return answers


def _surprise(measured: Measurement | None) -> float | None:
    return None if measured is None or isinstance(measured, Graded) else measured.surprise


def _show(log: Journal, when: str, measured: Measurement) -> None:
    """Print a measurement, and write a preference to the journal."""
    if not isinstance(measured, Preference):
        return
    log.write("held_out", when=when, **asdict(measured))
    interval = f"[{100 * measured.low:.1f}, {100 * measured.high:.1f}]"
    print(
        f"  {when}: {100 * measured.accuracy:.1f}% {interval} of {measured.pairs} held-out pairs preferred as labelled"
    )
