"""A training as `tunesmith.memory` predicts it, from its params and its longest rows."""

from collections.abc import Sequence

from tunesmith.arguments import Schedule
from tunesmith.device import Profile
from tunesmith.online import Online
from tunesmith.pairs import Pair
from tunesmith.runs import Machine, Objective, Run
from tunesmith.sft import Examples, Sft
from tunesmith.weights import Kind, Lora


def of_sft(sft: Sft, kind: Kind, lora: Lora | None, profile: Profile, examples: Examples) -> Run:
    """Packed sequences, as long as they may be, of rows of which as much is trained as of these."""
    trained = sum(sum(example.completion_mask) for example in examples.values())
    share = trained / sum(len(example.input_ids) for example in examples.values())
    return Run(
        objective="sft",
        weights=kind,
        batch=sft.batch_size,
        length=sft.max_length,
        labelled=round(share * sft.batch_size * sft.max_length),
        machine=machine(profile),
        rank=lora.rank if lora else 0,
    )


def of_pairs(
    objective: Objective, schedule: Schedule, kind: Kind, lora: Lora, profile: Profile, given: Sequence[Pair]
) -> Run:
    """Batches of the longest pair."""
    return Run(
        objective=objective,
        weights=kind,
        batch=schedule.batch_size,
        length=max(pair.length for pair in given),
        completion=max(max(len(pair.chosen), len(pair.rejected)) for pair in given),
        machine=machine(profile),
        rank=lora.rank,
    )


def of_online(objective: Objective, online: Online, lora: Lora, profile: Profile, longest_prompt: int) -> Run:
    """A step's answers, none of which ends before it must."""
    return Run(
        objective=objective,
        weights=online.weights,
        batch=online.batch_size,
        length=longest_prompt + online.max_new_tokens,
        completion=online.max_new_tokens,
        rollouts=online.prompts * online.group,
        group=online.group,
        reference=online.beta > 0,
        machine=machine(profile),
        rank=lora.rank,
    )


def machine(profile: Profile) -> Machine:
    return Machine(profile.device, profile.dtype.itemsize, checkpointing=profile.gradient_checkpointing)
