"""How a model is served: the section `serve` of params.yaml."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from tunesmith.core.params import Section


class Serve(Section):
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """auto: vLLM where there is a GPU and vLLM is installed, else `transformers serve`."""
    host: str = "127.0.0.1"
    """Where requests are taken; only a loopback address keeps others out, as there are no passwords here."""
    port: NonNegativeInt = 8000
    """0: any that is free."""
    poll_seconds: PositiveFloat = 5
    """Between two looks at who is champion."""
    drain_seconds: NonNegativeFloat = 60
    """That requests have to end in after another model has taken over, or at the end."""
    start_seconds: PositiveFloat = 300
    """That an engine may take until it answers, and each of its answers to a probe; and that what may pass, such as a
    tracker that is down, is waited for while nothing is served yet."""
    probes: PositiveInt = 32
    """Prompts that a server must answer as evaluated before it is used; chosen at registration."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 64
    """Of adapters; vLLM sets memory aside for it, and knows these values only."""
    gpu_memory_share: float = Field(default=0.4, gt=0, le=0.5)
    """Of the GPU, for each engine of vLLM: while one takes over from another there are two."""
