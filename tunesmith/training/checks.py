"""Checks of a finished training: pure functions over its logged steps, its weights and its model's answers."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from tunesmith.core.errors import TrainingError
from tunesmith.core.params import WeightsKind
from tunesmith.training.measurements import Preference

FEWEST_STEPS = 9
"""The fewest steps of a run whose thirds are long enough to tell a trend from noise."""
CHANCE = 0.5
LONGER = 1.5
"""The growth of completions, end over start, from which a policy may be gaming its reward."""
START, SWING, SWINGS = 5, 1.25, 0.1
"""Losses swing where this share of the steps, at least three, has a loss above SWING times the highest of the first
START, when little was learned."""
DISPLACED, RUINED = math.log(2), math.log(8)
"""Nats by which a token of a right answer has become less likely. Preference objectives push chosen answers down too
(Razin et al. 2024), so that only a factor of two is doubtful there; after a factor of eight a model is lost."""
NOT_LIKELIHOOD = ("margin", "kl")
"""Numbers logged by the objectives on given rows whose loss is not the mean surprise of right answers."""

Step = dict[str, float]
Digests = dict[str, str]


def check_steps(steps: Sequence[Step], *, online: bool = False) -> None:
    """Raise TrainingError where there was no step, or where the loss rose over the run by one standard error or more.

    A smaller change of the loss, which may be noise, is left to `warnings`. online: a training on its own completions,
    whose loss does not measure progress.
    """
    if not steps:
        raise TrainingError(
            "the training ended without a single step",
            fix="give it more rows, or lower the rows of a step (params.yaml); nothing was saved",
        )
    losses = [step["loss"] for step in steps]
    if online or len(losses) < FEWEST_STEPS:
        return
    rise, noise = _rise(losses)
    if rise >= noise:
        before, after = thirds(losses)
        raise TrainingError(
            f"the loss did not fall: {before:.4g} over the first third of {len(losses)} steps, {after:.4g} in the last",
            fix="change the learning rate, or train for more epochs (params.yaml); nothing was saved",
        )


def check_signal(steps: Sequence[Step]) -> None:
    """Raise TrainingError where in every step all answers to a prompt had the same reward, which teaches nothing."""
    equal = [step["equal_groups"] for step in steps if "equal_groups" in step]
    if equal and min(equal) == 1:
        raise TrainingError(
            f"the reward was constant: in each of {len(equal)} steps all answers to a prompt had the same reward",
            fix="take harder or easier prompts, larger groups, or a reward that tells better from worse answers "
            "(params.yaml); nothing was saved",
        )


def check_rows(prepared: int, trained: int) -> None:
    """Raise TrainingError unless as many rows were trained, over all epochs, as were prepared."""
    if prepared != trained:
        raise TrainingError(
            f"{trained} rows were trained over all epochs, and {prepared} were prepared: the trainer dropped or "
            "repeated some",
            fix="report this with your params.yaml; nothing was saved",
        )


def check_weights_moved(kind: WeightsKind, frozen: tuple[Digests, Digests], trained: tuple[Digests, Digests]) -> None:
    """Raise TrainingError if a frozen tensor changed, or too few trained ones did. Digests are (before, after)."""
    moved = [name for name, digest in frozen[0].items() if frozen[1].get(name) != digest]
    if moved or frozen[0].keys() != frozen[1].keys():
        names = ", ".join(moved[:3])
        raise TrainingError(
            f"{len(moved)} of the base's tensors changed, though only the adapter should train: {names}",
            fix="report this with your params.yaml; nothing was saved",
        )
    changed = sum(trained[1].get(name) != digest for name, digest in trained[0].items())
    if changed == 0 or (kind == "full" and 2 * changed <= len(trained[0])):
        raise TrainingError(
            f"only {changed} of the {len(trained[0])} tensors that were trained changed",
            fix="raise the learning rate or the epochs in params.yaml; nothing was saved",
        )


def check_answers_moved(before: Sequence[str], after: Sequence[str]) -> None:
    """Raise TrainingError if every probe prompt has the same answer as before the training."""
    if before and list(before) == list(after):
        raise TrainingError(
            f"the tuned model answers all {len(before)} probe prompts exactly as its start does: "
            "training had no effect",
            fix="raise the learning rate or the epochs in params.yaml; nothing was saved",
        )


def check_stops(stops: Sequence[bool]) -> None:
    """Raise TrainingError if the model would not end its turn after any of the right answers to validation prompts."""
    if stops and not any(stops):
        raise TrainingError(
            f"the model ends its turn after none of {len(stops)} right answers: the end of turn was not learned",
            fix="train for more epochs, or raise the learning rate in params.yaml; a base that never saw chats may not "
            "know the token at all: name a template that ends turns with the base's own end of text "
            "(base_model.chat_template); nothing was saved",
        )


def check_prefers(after: Preference) -> None:
    """Raise TrainingError unless held-out pairs are ranked better than at the start, where they are ranked by chance.

    A policy starts with the same probabilities as its reference, and a reward model with a random head.
    """
    if after.accuracy > CHANCE and after.margin > 0:
        return
    raise TrainingError(
        f"{100 * after.accuracy:.1f}% of {after.pairs} held-out pairs are preferred as labelled, by {after.margin:.3g} "
        "on average: no better than before the training, when it was chance",
        fix="give it more pairs or epochs, or another learning rate (params.yaml); nothing was saved",
    )


def check_not_ruined(before: float | None, after: float | None) -> None:
    """Raise TrainingError where right held-out answers are far less likely than before the training.

    before, after: the surprise of their tokens, in nats; None where it was not measured. The losses of the steps need
    not show it: a training can fit its own rows and lose all else.
    """
    if before is None or after is None or after - before < RUINED:
        return
    raise TrainingError(
        f"the training ruined the model: the tokens of right held-out answers surprise it by {after:.3g} nats each, "
        f"and by {before:.3g} before",
        fix="lower the learning rate, or the epochs where rows are few (params.yaml); nothing was saved",
    )


def warnings(
    steps: Sequence[Step],
    preference: Preference | None = None,
    surprises: tuple[float | None, float | None] = (None, None),
    *,
    online: bool = False,
) -> list[str]:
    """Findings that do not stop a training, in words: signs of a gamed reward or of a learning rate that is too high,
    and changes that may be noise. surprises: as `check_not_ruined` takes them. online: as `check_steps` takes it.
    """
    findings = []
    losses = [] if online else [step["loss"] for step in steps]
    if len(losses) >= FEWEST_STEPS and sum(_rise(losses)) > 0:
        findings.append(f"whether the loss fell over {len(losses)} steps cannot be told from noise")
    findings += [] if online else _swings(steps)
    before, after = surprises
    if before is not None and after is not None and after - before > (0 if preference is None else DISPLACED):
        findings.append(
            f"right held-out answers are less likely than before ({before:.3g} → {after:.3g} nats a token): is the "
            "learning rate too high, or are there too many epochs over few rows?"
        )
    if preference is not None and preference.low <= CHANCE:
        findings.append(
            f"{100 * preference.accuracy:.1f}% of {preference.pairs} held-out pairs cannot be told from chance"
        )
    rewards, scores = ([step[name] for step in steps if step.get(name) is not None] for name in ("reward", "score"))
    if len(rewards) == len(scores) >= FEWEST_STEPS:
        (low, high), (before, after) = thirds(rewards), thirds(scores)
        if high > low and after < before:
            findings.append(
                f"reward hacking? the reward rose from {low:.3g} to {high:.3g} while the verifier's score fell from "
                f"{before:.3g} to {after:.3g}"
            )
    if len(rewards) >= FEWEST_STEPS:
        rise, noise = _rise(rewards)
        if -rise >= noise > 0:
            findings.append(f"the reward fell by {-rise:.3g}: is the learning rate too high?")
    lengths = [step["completion_tokens"] for step in steps if step.get("completion_tokens") is not None]
    if len(lengths) >= FEWEST_STEPS:
        short, long = thirds(lengths)
        if long > LONGER * short:
            findings.append(f"completions grew from {short:.1f} to {long:.1f} tokens: does the reward pay for length?")
    return findings


def _swings(steps: Sequence[Step]) -> list[str]:
    """A finding where losses later in a supervised fine-tuning keep exceeding those of its first steps."""
    losses = [step["loss"] for step in steps if not step.keys() & {*NOT_LIKELIHOOD}]
    if len(losses) < FEWEST_STEPS:
        return []
    worst, later = max(losses[:START]), losses[START:]
    high = [loss for loss in later if loss > SWING * worst]
    if len(high) < max(3, SWINGS * len(later)):
        return []
    return [
        f"the losses swing: {len(high)} of the last {len(later)} steps have up to {max(high):.3g}, none of the first "
        f"{START} had more than {worst:.3g}: is the learning rate too high?"
    ]


def _rise(losses: Sequence[float]) -> tuple[float, float]:
    """The rise of the mean from the first to the last third, and its standard error."""
    part = len(losses) // 3
    before, after = thirds(losses)
    return after - before, math.sqrt((variance(losses[:part]) + variance(losses[-part:])) / part)


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last third."""
    part = len(values) // 3
    return fmean(values[:part]), fmean(values[-part:])


def check_agree(digests: Sequence[Mapping[str, str]]) -> None:
    """Raise TrainingError where processes ended with different weights. digests: of each, by tensor."""
    for rank, own in enumerate(digests):
        if differ := [name for name, digest in own.items() if digests[0][name] != digest]:
            raise TrainingError(
                f"process {rank + 1} of {len(digests)} ended with other weights than the first ({differ[0]}, "
                f"{len(differ)} of {len(own)} tensors)",
                fix="report this with your params.yaml; nothing was saved. `runtime: {processes: 1}` trains in one",
            )
