"""Loss and gradients of our trainers on this device, beside one row at a time in float32 with eager attention.

Each model is small and random: Llama, Qwen3, and Gemma 3 with a sliding window that is shorter than the rows. The
reference has the same weights, rounded to bfloat16 as the trainers hold frozen ones, and an adapter whose B is random
too, since from a B of zeros no gradient would reach A. Each path takes one step of a real trainer, with rows of
different lengths.
"""

import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import AutoConfig, AutoModelForCausalLM, TrainerCallback

from benchmarks import random_models
from tunesmith.models import chat, device, weights
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import likelihoods
from tunesmith.models.preference_pairs import Pair
from tunesmith.models.settings import Lora
from tunesmith.training import trainer_config
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.entries.sft import Sft
from tunesmith.training.objectives import dpo as dpo_objective
from tunesmith.training.objectives import sft as sft_objective

VOCABULARY, WINDOW, LONGEST, BATCH, BETA = 512, 16, 64, 8, 0.1
LENGTHS = (64, 5, 33, 17, 48, 2, 29, 60)
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma3_text": {
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 32,
    },
}
TOLERATED: dict[torch.dtype, tuple[float, float]] = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (0.02, 0.08)}
"""Greatest differences of the loss and of the gradient's norm, as shares of the reference's, by the dtype of products.
In bfloat16, whose numbers have 8 bits, a product of four layers has an error of some hundredths."""
LORA = Lora(rank=4, alpha=8, dropout=0.0)

Gradients = dict[str, Tensor]


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """Every path of one kind of model. settings: kind. ``ok`` is whether all are within TOLERATED."""
    kind, found = settings["kind"], device.detect()
    sft_reference, dpo_reference = reference(kind, found.device, "sft"), reference(kind, found.device, "dpo")
    paths: dict[str, Any] = {}
    for dtype in TOLERATED:
        for recomputed in (False, True):
            profile = replace(found, dtype=dtype, gradient_checkpointing=recomputed)
            name = f"{str(dtype).removeprefix('torch.')}{', recomputed' if recomputed else ''}"
            paths[f"sft, packed, {name}"] = compared(sft_step(kind, profile), sft_reference, dtype)
            paths[f"dpo, padded, {name}"] = compared(dpo_step(kind, profile), dpo_reference, dtype)
        profile = replace(found, dtype=dtype)
        paths[f"log-probabilities, {str(dtype).removeprefix('torch.')}"] = scored(kind, profile, dtype)
    return {"ok": all(path["ok"] for path in paths.values()), "paths": paths}


def policy(kind: str, profile: Profile, attention: str | None = None) -> OpenModel:
    """The same weights for every dtype and attention."""
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **SMALL | KINDS[kind])
    settings = {} if attention is None else {"attn_implementation": attention}
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **settings)
    model = weights.add_lora(model.to(torch.bfloat16), LORA)
    weights.make_trainable_float32(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter.data, std=0.1)
        else:
            parameter.data = parameter.data.to(profile.dtype)
    return random_models.opened(model.to(profile.device), random_models.tokenizer(), profile)


def examples() -> dict[str, chat.Example]:
    """Rows of random tokens, of which the later half is trained."""
    noise = random.Random(1)
    found = {}
    for number, length in enumerate(LENGTHS):
        tokens = [noise.randrange(3, VOCABULARY) for _ in range(length)]
        found[str(number)] = chat.Example(tokens, [0] * (length - length // 2) + [1] * (length // 2))
    return found


def pairs() -> list[Pair]:
    """Pairs of random tokens."""
    noise = random.Random(2)

    def tokens(count: int) -> list[int]:
        return [noise.randrange(3, VOCABULARY) for _ in range(count)]

    return [
        Pair(str(number), tokens(length), tokens(3 + length // 4), tokens(9))
        for number, length in enumerate(LENGTHS[: BATCH // 2])
    ]


def reference(kind: str, on: str, objective: str) -> tuple[float, Gradients]:
    """Loss and gradients of one row at a time in float32, with eager attention."""
    model: Any = policy(kind, Profile(on, on, torch.float32, gradient_checkpointing=False), "eager").model
    if objective == "sft":
        count = sum(sum(example.completion_mask) for example in examples().values())
        losses = []
        for example in examples().values():
            logits = model(input_ids=torch.tensor([example.input_ids], device=on), use_cache=False).logits[0, :-1]
            targets = torch.tensor(example.input_ids[1:], device=on)
            trained = torch.tensor(example.completion_mask[1:], device=on) == 1
            losses.append(cross_entropy(logits[trained], targets[trained], reduction="sum") / count)
    else:
        sides = [[_log_prob(model, pair.prompt, side) for side in (pair.chosen, pair.rejected)] for pair in pairs()]
        losses = [-logsigmoid(BETA * (chosen - rejected)) / len(sides) for chosen, rejected in sides]
    for loss in losses:
        loss.backward()
    return float(sum(losses)), gradients(model)


def _log_prob(model: Any, prompt: list[int], completion: list[int]) -> Tensor:
    ids = torch.tensor([prompt + completion], device=model.device)
    values = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
    found: Tensor = values.gather(-1, ids[0, 1:, None])[-len(completion) :].sum()
    return found


def gradients(model: torch.nn.Module) -> Gradients:
    return {
        name.replace(".default", ""): parameter.grad.float().cpu()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


class _Keeper(TrainerCallback):
    """Keeps the gradients of a step before the optimizer takes them."""

    def __init__(self) -> None:
        self.found: Gradients = {}

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        self.found = gradients(model)


def step(trainer: Any) -> tuple[float, Gradients]:
    """Loss and gradients of a trainer's first step."""
    keeper, losses = _Keeper(), []
    trainer.add_callback(keeper)
    trainer.args.max_steps, trainer.args.max_grad_norm = 1, 1e9
    compute = trainer.compute_loss

    def kept(*args: Any, **settings: Any) -> Any:
        found = compute(*args, **settings)
        losses.append(float((found[0] if isinstance(found, tuple) else found).detach()))
        return found

    trainer.compute_loss = kept
    with trainer_config.one_precision(trainer):
        trainer.train()
    return losses[0], keeper.found


def sft_step(kind: str, profile: Profile) -> tuple[float, Gradients]:
    entry = Sft(dataset="random", lora=LORA, learning_rate=1e-3, max_length=LONGEST, batch_size=BATCH, probes=0)
    with tempfile.TemporaryDirectory() as scratch:
        made = sft_objective.make_trainer(policy(kind, profile), examples(), entry, profile, Path(scratch))
        return step(made)


def dpo_step(kind: str, profile: Profile) -> tuple[float, Gradients]:
    entry = Dpo(dataset="random", start="base", lora=LORA, learning_rate=1e-3, beta=BETA, batch_size=BATCH, probes=0)
    values: Any = [{"id": pair.id, "chosen": 0.0, "rejected": 0.0} for pair in pairs()]
    known = dpo_objective.Reference(values, Path("-"))
    with tempfile.TemporaryDirectory() as scratch:
        made = dpo_objective.make_trainer(policy(kind, profile), pairs(), known, entry, profile, Path(scratch))
        return step(made)


def compared(found: tuple[float, Gradients], expected: tuple[float, Gradients], dtype: torch.dtype) -> dict[str, Any]:
    """Differences as shares of the reference: of the loss, and of the norm of all gradients together."""
    (loss, ours), (right, theirs) = found, expected
    if ours.keys() != theirs.keys():
        return {"ok": False, "error": f"gradients of {len(ours)} tensors, not of {len(theirs)}"}
    apart = sum(float((ours[name] - theirs[name]).norm() ** 2) for name in theirs) ** 0.5
    whole = sum(float(value.norm() ** 2) for value in theirs.values()) ** 0.5
    shares = abs(loss - right) / abs(right), apart / whole
    tolerated = TOLERATED[dtype]
    return {
        "ok": all(share <= most for share, most in zip(shares, tolerated, strict=True)),  # False for NaN too
        "loss": shares[0],
        "gradient": shares[1],
        "tolerated": tolerated,
    }


@torch.no_grad()
def scored(kind: str, profile: Profile, dtype: torch.dtype) -> dict[str, Any]:
    """The scorer's log-probabilities of completions, beside those of one row at a time, by the same shares."""
    whole: Any = policy(kind, replace(profile, dtype=torch.float32), "eager").model
    asked = [(pair.prompt, side) for pair in pairs() for side in (pair.chosen, pair.rejected)]
    right = [float(_log_prob(whole, *example)) for example in asked]
    found = [each.log_prob for each in likelihoods(policy(kind, profile), asked, batch_size=BATCH)]
    share = max(abs(a - b) / abs(b) for a, b in zip(found, right, strict=True))
    return {"ok": share <= TOLERATED[dtype][0], "log_probability": share, "tolerated": TOLERATED[dtype][0]}
