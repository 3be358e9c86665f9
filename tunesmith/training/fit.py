"""Decide how a training uses the memory there is, as `tunesmith plan` predicts it: batch, accumulation, recomputation.

A step of ``tokens_per_step`` tokens is a number of examples that depends on the rows alone, so that machines of any
size take the same steps; the memory decides how many of them go through the model at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from peft import LoraConfig, PeftModel
from pydantic import ValidationError

from tunesmith.core import formatting, processes
from tunesmith.core.errors import ResourceError
from tunesmith.core.params import Objective
from tunesmith.models import collectives, servable_adapter, weights
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.planning import fit as planned
from tunesmith.planning import hardware, memory, model_shape, sharding, workload
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import Workload
from tunesmith.training import optimizers
from tunesmith.training import spec as specs
from tunesmith.training.entries.common import Batched, Entry
from tunesmith.training.entries.online import Online
from tunesmith.training.spec import LargestStep, TrainingSpec

LESS = 0.8
"""The share of what was predicted that a training may take after it ran out of memory, to be suggested then."""
DIGITS = 3
"""Binary digits of the number of examples that a step of ``tokens_per_step`` takes, so that many batches divide it."""

E = TypeVar("E", bound=Entry)


@dataclass(frozen=True)
class Batchable:
    """The examples that batches are made of: packed sequences, pairs, marked answers or completions.

    step_of: a function from a batch size to the largest step. tokens: of an example, on average. count: the number that
    an epoch has; 0 where they are drawn. least: the smallest batch.
    """

    step_of: Callable[[int], LargestStep]
    tokens: float = 1.0
    count: int = 0
    least: int = 1


@dataclass(frozen=True)
class Fit(Generic[E]):
    """A training as a machine may run it.

    entry: with a batch and an accumulation. profile: with recomputation or not. largest_step, and workload: the same as
    the plan counts it. predicted: the bytes that it takes.
    """

    entry: E
    profile: Profile
    largest_step: LargestStep
    workload: Workload
    predicted: int

    def recomputed(self, shape: Shape) -> "Fit[E]":
        """The same with layers recomputed."""
        work = planned.with_recomputation(self.workload, True)
        profile = replace(self.profile, gradient_checkpointing=True)
        return replace(self, profile=profile, workload=work, predicted=memory.predict(shape, work).total)


def choose(
    objective: Objective,
    entry: E,
    policy: OpenModel,
    examples: Batchable,
) -> Fit[E]:
    """The training as this machine runs it, printed in a line, before anything takes time.

    Also prints what vLLM cannot serve. Raises MissingLibraryError where the optimizer's library is missing.
    """
    optimizers.argument(entry.optimizer, policy.profile.device)
    number = processes.count()
    if isinstance(policy.model, PeftModel):
        for text in servable_adapter.warnings(weights.saved_config(policy.model)):
            print(f"  warning: {text}", flush=True)
    shape, budget = model_shape.read(str(policy.full_weights)), memory_of(policy.profile)
    chosen = decide(objective, entry, specs.adapter_of(policy), policy.profile, shape, budget, examples, number)
    batches = f", {chosen.workload.accumulation} a step" if chosen.workload.accumulation > 1 else ""
    each = f"each of {number} processes takes " if number > 1 else ""
    print(
        f"  plan: {each}{formatting.size(chosen.predicted)} of {formatting.size(budget)} of memory; batches of "
        f"{chosen.entry.batch_size // number}{batches}; {'' if chosen.profile.gradient_checkpointing else 'no '}"
        "layers are recomputed",
        flush=True,
    )
    return chosen


def decide(
    objective: Objective,
    entry: E,
    adapter: LoraConfig | None,
    profile: Profile,
    shape: Shape,
    budget: int,
    examples: Batchable,
    number: int = 1,
) -> Fit[E]:
    """The fit of a training for ``budget`` bytes. Pure.

    number: of processes, each with as many bytes; the batch of the entry found is that of all together. Where nothing
    is predicted to fit, it is what takes least, since the prediction may be wrong. Raises ParamsError where the
    processes cannot divide a step.
    """
    fits = [
        _fit(objective, each, adapter, profile, shape, examples.step_of(each.batch_size // number))
        for each in _batchings(entry, examples, number)
    ]
    allowed = {"auto": (False, True), "always": (True,), "never": (False,)}[entry.checkpointing]
    tried = [fit.recomputed(shape) if recompute else fit for recompute in allowed for fit in fits]
    return next((fit for fit in tried if planned.fits(shape, fit.workload, budget)), tried[-1])


def out_of_memory(error: BaseException, spec: TrainingSpec, policy: OpenModel, profile: Profile) -> ResourceError:
    """The error for a user whose device is too small for a training: what was predicted, and what to lower to what."""
    shape, budget = model_shape.read(str(policy.full_weights)), memory_of(profile)
    failed = _fit(spec.objective, spec.entry, specs.adapter_of(policy), profile, shape, spec.largest_step)
    if profile.gradient_checkpointing:
        failed = failed.recomputed(shape)
    limit = LESS * min(failed.predicted, budget)
    changes = [f"{change} ({formatting.size(size)})" for change, size in _changes(failed, shape) if size <= limit]
    online = isinstance(spec.entry, Online)
    shorter = "lower max_new_tokens or max_prompt_length" if online else "lower max_length"
    reason = str(error).partition(" Of the allocated memory")[0].partition("\n")[0]
    return ResourceError(
        f"{spec.out}: {reason}; `tunesmith plan` predicted {formatting.size(failed.predicted)} of "
        f"{formatting.size(budget)}",
        fix=f"in params.yaml, {spec.objective}.{spec.out.name}: {', or '.join([*changes, shorter])}; or end what else "
        "uses the memory",
    )


def _changes(fit: Fit[E], shape: Shape) -> Iterator[tuple[str, int]]:
    """Params that lower the memory of a training, each with the bytes predicted; those that change no step first."""
    if not fit.profile.gradient_checkpointing:
        yield "checkpointing: always", fit.recomputed(shape).predicted
    batch, batches = fit.largest_step.batch, fit.largest_step.accumulation
    for smaller in _divisors(batch)[1:]:
        params: dict[str, object] = {"batch_size": smaller * fit.workload.processes}
        if isinstance(fit.entry, Batched):
            params |= {"gradient_accumulation": batches * batch // smaller}
            if fit.entry.tokens_per_step is not None:
                params |= {"tokens_per_step": None}
        if _is_valid(fit.entry, params):
            step = replace(
                fit.workload,
                batch=smaller,
                labelled=fit.workload.labelled * smaller // batch,
                accumulation=batches * batch // smaller if isinstance(fit.entry, Batched) else 1,
            )
            named = (f"{name}: {'null' if value is None else value}" for name, value in params.items())
            yield ", ".join(named), memory.predict(shape, step).total
    if fit.entry.weights == "lora" and _is_valid(fit.entry, {"weights": "qlora"}):
        yield "weights: qlora", memory.predict(shape, replace(fit.workload, weights="qlora")).total


def _is_valid(entry: Entry, params: dict[str, object]) -> bool:
    """Whether an entry with these params in place of its own would be taken."""
    try:
        type(entry).model_validate(entry.model_dump() | params)
    except ValidationError:
        return False
    return True


def _batchings(entry: E, examples: Batchable, number: int) -> list[E]:
    """``entry`` with each batch, over all processes, that makes its steps, the largest first.

    Without ``tokens_per_step`` there is one: the entry's own, or the next that the processes can divide. Raises
    ParamsError where they can divide none.
    """
    if isinstance(entry, Batched) and entry.tokens_per_step is not None:
        wanted = entry.tokens_per_step / examples.tokens
        step = _rounded(min(wanted, examples.count or wanted), examples.least)
        each = sharding.divide(step, number, least=examples.least)
    else:
        step = entry.examples_a_step
        own = -(-entry.batch_size // number)  # where that divides no step, fewer at once
        each = sharding.divide(step, number, most=max(own, examples.least), least=examples.least)[:1]
    if isinstance(entry, Online):
        return [entry.model_copy(update={"batch_size": batch * number}) for batch, _ in each]
    return [
        entry.model_copy(update={"batch_size": batch * number, "gradient_accumulation": batches})
        for batch, batches in each
    ]


def _fit(
    objective: Objective, entry: E, adapter: LoraConfig | None, profile: Profile, shape: Shape, step: LargestStep
) -> Fit[E]:
    """``entry`` without recomputation."""
    profile = replace(profile, gradient_checkpointing=False)
    if isinstance(entry, Batched) and step.accumulation == 1:
        step = replace(step, accumulation=entry.gradient_accumulation)
    event = specs.step_event(entry, adapter, step, profile)
    work = workload.from_journal({"objective": objective, "weights": entry.weights, "largest_step": event})
    return Fit(entry, profile, step, work, memory.predict(shape, work).total)


def memory_of(profile: Profile) -> int:
    """The bytes that each process of a training may take: those of a GPU that nobody else holds, or its share of the
    machine's. All processes plan with the smallest.
    """
    if profile.device == "cuda":
        own = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() + memory.CUDA_CONTEXT  # that the plan counts
    else:
        own = hardware.ram() // processes.count()
    return min(collectives.gathered(own))


def _rounded(examples: float, least: int) -> int:
    """To DIGITS binary digits and a multiple of ``least``, at least one."""
    unit = max(least, 1 << max(0, round(examples).bit_length() - DIGITS))
    return max(1, round(examples / unit)) * unit


def _divisors(number: int) -> list[int]:
    """The largest first."""
    return [divisor for divisor in range(number, 0, -1) if number % divisor == 0]
