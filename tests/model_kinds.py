"""Tiny random models of several architectures, and what each row gives alone, under transformers' plain attention."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY, WINDOW = 50, 4
SMALL: dict[str, Any] = {
    **{"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "initializer_range": 0.2},
}
LAYERS = ["sliding_attention", "full_attention"]
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma3_text": {"sliding_window": WINDOW, "layer_types": LAYERS},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "router_aux_loss_coef": 0.0},
}
"""Settings by model type. Windows are shorter than most rows. Experts have no load-balancing loss, which is not a sum
over tokens: it follows from how rows are divided into batches.
"""
EXACTLY: dict[str, float] = {"atol": 1e-5, "rtol": 1e-5}
"""How near a fast path is to the plain one in float32."""


def make(kind: str, **settings: Any) -> PreTrainedModel:
    """The same weights for the same kind, under eager attention."""
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **SMALL | KINDS.get(kind, {}) | settings)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    return model


def token_log_probs(model: PreTrainedModel, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    """The log-probability of every token of a completion, from one row alone under eager attention."""
    assert model.config._attn_implementation == "eager"
    logits = model(input_ids=torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0]
    targets = torch.tensor(completion)[:, None]
    return logits[len(prompt) - 1 : -1].log_softmax(-1).gather(-1, targets)[:, 0]


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """The gradients by name, which are taken from the model."""
    values = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return values


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Every gradient is there, and near the expected one."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, **EXACTLY, msg=lambda text, name=name: f"{name}: {text}")
