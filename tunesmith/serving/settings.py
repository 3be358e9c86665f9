"""The section `serve` of params.yaml."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from tunesmith.core.params import Section
from tunesmith.models.engines.settings import Argument


class Serve(Section):
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """The engine that generates. auto: vLLM where a GPU is present and vLLM is installed (section `engine`), else
    transformers' server."""
    host: str = "127.0.0.1"
    """Address that requests are accepted at. Without a key (`api_key_variable`) only a loopback address keeps others
    out."""
    api_key_variable: str | None = None
    """Environment variable with the key that requests must send, as in Authorization: Bearer KEY. null: no key."""
    names: tuple[str, ...] = ()
    """Names, beside localhost, under which requests may come to a loopback address: those of a proxy in front. Any
    other name may be a web page's, which a browser must not bring here."""
    port: NonNegativeInt = 8000
    """Port that requests are accepted at. 0: any free port."""
    poll_seconds: PositiveFloat = 5
    """Seconds between two polls for a new champion."""
    drain_seconds: NonNegativeFloat = 60
    """Grace period for in-flight requests when another model takes over, and at shutdown, in seconds."""
    start_seconds: PositiveFloat = 300
    """Timeout, in seconds, for an engine to become healthy, for each answer to a probe, and for transient errors (such
    as a tracker that is down) while nothing is served yet."""
    probes: PositiveInt = 32
    """Number of prompts, chosen at registration, that an engine must answer as in the evaluation before it serves."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 64
    """Maximum LoRA rank of a served adapter. vLLM reserves memory for it and accepts these values only."""
    max_model_len: PositiveInt = 8192
    """Maximum tokens of a prompt and its answer together, up to the model's context. vLLM's cache for one such request
    must fit the GPU."""
    gpu_memory_share: float = Field(default=0.85, gt=0, le=0.95)
    """Fraction of the GPU's memory for each vLLM engine. An adapter on the served base needs no other engine. Another
    base, or full weights, do: up to a share of 0.5 that engine starts beside the current one; above, the current one
    stops first, and requests are refused in between."""
    args: tuple[Argument, ...] = ()
    """Further arguments of `vllm serve`, such as [--enable-prefix-caching]."""
    max_requests: PositiveInt = 64
    """Number of requests that are answered at once. Further ones are refused with status 429."""
    max_request_bytes: PositiveInt = 1_000_000
    """Size of a request, in bytes. Larger ones are refused."""
    max_new_tokens: PositiveInt = 4096
    """Length of an answer, in tokens, at most; also that of an answer whose request names none."""
    request_seconds: PositiveFloat = 600
    """Time from a request to the end of its answer, in seconds. An answer that takes longer is cut off."""
    stall_seconds: PositiveFloat = 120
    """Time, in seconds, that an engine may generate nothing while it is asked to. Then it counts as hung: /health says
    unavailable, and the engine is restarted."""

    def fit(self, engines: int) -> bool:
        """Whether this number of vLLM engines fits the GPU at once."""
        return engines * self.gpu_memory_share <= 1
