"""Products of the linear layers in floating point of 8 bits, by torchao (Micikevicius et al. 2022)."""

from dataclasses import replace

import torch

from tunesmith.core import extras
from tunesmith.core.errors import ResourceError
from tunesmith.models.device import Profile
from tunesmith.models.weights import HEADS

CAPABILITY = (8, 9)
"""The compute capability of the first GPUs with such products: L4, L40S, RTX 40; H100 has 9.0."""
MULTIPLE = 16
"""Both sizes of a layer must be multiples of it."""


def use_float8(model: torch.nn.Module, profile: Profile, *, emulate: bool = False) -> None:
    """Make the linear layers of ``model`` multiply in 8 bits, scaled by row; weights stay, and are saved, as they are.

    Output heads and adapters keep their precision. emulate: round as a GPU would, and multiply in the dtype there is.
    Raises ResourceError where this machine has no such products, MissingLibraryError without torchao.
    """
    able = profile.device == "cuda" and torch.cuda.get_device_capability() >= CAPABILITY
    if not able and not emulate:
        raise ResourceError(
            f"{profile.name} multiplies no floating point of 8 bits",
            fix="leave out float8, or train on a GPU of compute capability 8.9 or later (L4, L40S, RTX 4090, H100)",
        )
    extras.check("torchao")
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training  # of an extra

    # Padded: the gradients of weights sum over the tokens of a batch, of which packed ones have any number.
    config = replace(Float8LinearConfig.from_recipe_name("rowwise"), emulate=emulate, pad_inner_dim=True)
    convert_to_float8_training(model, config=config, module_filter_fn=_multiplies)


def _multiplies(module: torch.nn.Module, name: str) -> bool:
    """Whether a layer's products are large enough for 8 bits to pay."""
    if not isinstance(module, torch.nn.Linear) or "lora_" in name or name.split(".")[-1] in HEADS:
        return False
    return module.in_features % MULTIPLE == 0 and module.out_features % MULTIPLE == 0
