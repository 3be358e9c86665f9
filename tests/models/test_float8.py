"""Products in 8 bits: which layers have them, that weights stay, and where there are none."""

import pytest
import torch
from profiles import EXACT
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from tunesmith.core.errors import ResourceError
from tunesmith.models import weights
from tunesmith.models.float8 import use_float8
from tunesmith.models.settings import Lora


def model() -> torch.nn.Module:
    set_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=120,  # not a multiple of 16
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
    )
    return weights.add_lora(LlamaForCausalLM(config).to(torch.bfloat16), Lora(rank=16))


def test_layers_of_whole_tiles_multiply_in_8_bits_within_its_rounding() -> None:
    exact, rounded = model(), model()
    before = rounded.state_dict()
    use_float8(rounded, EXACT, emulate=True)
    changed = {
        name.split(".layers.0.")[1] for name, layer in rounded.named_modules() if "Float8" in type(layer).__name__
    }
    assert changed == {f"self_attn.{name}_proj.base_layer" for name in "qkvo"}
    assert all(torch.equal(value, before[name]) for name, value in rounded.state_dict().items())
    ids = torch.arange(32)[None]
    losses = [each(input_ids=ids, labels=ids).loss for each in (exact, rounded)]
    assert losses[0] != losses[1]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.01)
    losses[1].backward()
    gradients = [parameter.grad for parameter in rounded.parameters() if parameter.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_a_machine_without_such_products_says_so() -> None:
    with pytest.raises(ResourceError, match="a test multiplies no floating point of 8 bits"):
        use_float8(model(), EXACT)
