"""Profiles that tests compute under, whatever the machine."""

import torch

from tunesmith.models.device import Profile

EXACT = Profile("cpu", "a test", torch.float32, gradient_checkpointing=False)
"""In bfloat16 the same sums in another order differ in the third digit."""
