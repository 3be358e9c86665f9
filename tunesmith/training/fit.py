"""Decide how a training uses the memory there is, as `tunesmith plan` predicts it: batch, accumulation, recomputation.

A step of ``tokens_per_step`` tokens is a number of examples that depends on the rows alone, so that machines of any
size take the same steps; the memory decides how many of them go through the model at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch

from tunesmith.core import formatting
from tunesmith.core.errors import ResourceError
from tunesmith.core.params import Objective
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.planning import fit as planned
from tunesmith.planning import hardware, memory, model_shape, workload
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import Workload
from tunesmith.training import spec as specs
from tunesmith.training.entries.common import Batched, Entry
from tunesmith.training.spec import LargestStep, TrainingSpec

LESS = 0.8
"""The share of what was predicted that a training may take after it ran out of memory, to be suggested then."""
DIGITS = 3
"""Binary digits of the number of examples that a step of ``tokens_per_step`` takes, so that many batches divide it."""

E = TypeVar("E", bound=Entry)
StepOf = Callable[[int], LargestStep]
"""A function from a batch size to the largest step of a training."""


@dataclass(frozen=True)
class Fit(Generic[E]):
    """A training as a machine may run it.

    entry: with a batch and an accumulation. profile: with recomputation or not. workload: its largest step. predicted:
    the bytes that it takes.
    """

    entry: E
    profile: Profile
    workload: Workload
    predicted: int

    def recomputed(self, shape: Shape) -> "Fit[E]":
        """The same with layers recomputed."""
        work = planned.with_recomputation(self.workload, True)
        profile = replace(self.profile, gradient_checkpointing=True)
        return replace(self, profile=profile, workload=work, predicted=memory.predict(shape, work).total)


def choose(
    objective: Objective, entry: E, policy: OpenModel, step_of: StepOf, *, tokens: float | None = None, least: int = 1
) -> tuple[E, Profile]:
    """The entry and the profile with which a training runs on this machine; printed in a line.

    tokens: of an example, on average. least: the smallest batch. Where nothing is predicted to fit, they are those that
    take least, since the prediction may be wrong.
    """
    shape, budget = model_shape.read(str(policy.full_weights)), _budget(policy.profile)
    fits = [_fit(objective, each, policy.profile, shape, step_of) for each in _batchings(entry, tokens, least)]
    allowed = {"auto": (False, True), "always": (True,), "never": (False,)}[entry.checkpointing]
    tried = [fit.recomputed(shape) if recompute else fit for recompute in allowed for fit in fits]
    chosen = next((fit for fit in tried if planned.fits(shape, fit.workload, budget)), tried[-1])
    batches = f", {chosen.workload.accumulation} a step" if chosen.workload.accumulation > 1 else ""
    print(
        f"  plan: {formatting.size(chosen.predicted)} of {formatting.size(budget)} of memory; batches of "
        f"{chosen.entry.batch_size}{batches}; {'' if chosen.profile.gradient_checkpointing else 'no '}"
        "layers are recomputed",
        flush=True,
    )
    return chosen.entry, chosen.profile


def out_of_memory(error: BaseException, spec: TrainingSpec, policy: OpenModel, profile: Profile) -> ResourceError:
    """The error for a user whose device is too small for a training: what was predicted, and what to lower to what."""
    shape, budget = model_shape.read(str(policy.full_weights)), _budget(profile)
    ran = _fit(spec.objective, spec.entry, profile, shape, lambda batch: spec.largest_step)
    if profile.gradient_checkpointing:
        ran = ran.recomputed(shape)
    wanted = LESS * min(ran.predicted, budget)
    lower = [f"{change} ({formatting.size(size)})" for change, size in _changes(ran, shape) if size <= wanted]
    lower = lower or ["a smaller max_length, or a smaller base model"]
    says = str(error).partition(" Of the allocated memory")[0].partition("\n")[0]
    sizes = f"{formatting.size(ran.predicted)} of {formatting.size(budget)}"
    return ResourceError(
        f"{spec.out}: {says}; `tunesmith plan` predicted {sizes}",
        fix=f"in params.yaml, {spec.objective}.{spec.out.name}: {' or '.join(lower)}. Or end what else uses the memory",
    )


def _changes(fit: Fit[E], shape: Shape) -> Iterator[tuple[str, int]]:
    """Params that lower the memory of a training, each with the bytes predicted; those that change no step first."""
    if not fit.profile.gradient_checkpointing:
        yield "checkpointing: always", fit.recomputed(shape).predicted
    batch = fit.entry.batch_size
    for smaller in _divisors(batch)[1:]:
        step = replace(fit.workload, batch=smaller, labelled=fit.workload.labelled * smaller // batch)
        size = memory.predict(shape, step).total
        accumulation = fit.workload.accumulation * batch // smaller
        same_step = f", gradient_accumulation: {accumulation}" if isinstance(fit.entry, Batched) else ""
        yield f"batch_size: {smaller}{same_step}", size
    if fit.workload.weights == "lora":
        yield "weights: qlora", memory.predict(shape, replace(fit.workload, weights="qlora")).total


def _batchings(entry: E, tokens: float | None, least: int) -> list[E]:
    """``entry`` as it is, or with each batch that makes steps of ``tokens_per_step``, the largest first."""
    if not isinstance(entry, Batched) or entry.tokens_per_step is None:
        return [entry]
    assert tokens is not None
    examples = _rounded(entry.tokens_per_step / tokens, least)
    batches = [batch for batch in _divisors(examples) if batch >= least]
    return [
        entry.model_copy(update={"batch_size": batch, "gradient_accumulation": examples // batch}) for batch in batches
    ]


def _fit(objective: Objective, entry: E, profile: Profile, shape: Shape, step_of: StepOf) -> Fit[E]:
    """``entry`` without recomputation."""
    profile = replace(profile, gradient_checkpointing=False)
    step = specs.step_event(entry, step_of(entry.batch_size), profile)
    work = workload.from_journal({"objective": objective, "weights": entry.weights, "largest_step": step})
    return Fit(entry, profile, work, memory.predict(shape, work).total)


def _budget(profile: Profile) -> int:
    """The bytes that this training may take: those of a GPU that no other process holds, or the machine's."""
    if profile.device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    return hardware.ram()


def _rounded(examples: float, least: int) -> int:
    """To DIGITS binary digits and a multiple of ``least``, at least one."""
    unit = max(least, 1 << max(0, round(examples).bit_length() - DIGITS))
    return max(1, round(examples / unit)) * unit


def _divisors(number: int) -> list[int]:
    """The largest first."""
    return [divisor for divisor in range(number, 0, -1) if number % divisor == 0]
