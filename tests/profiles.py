"""Device profiles for tests that are the same on every machine."""

import torch

from tunesmith.models.device import Profile

EXACT = Profile("cpu", "a test", torch.float32)
"""Float32, since in bfloat16 the same sums in another order differ in the third digit."""
