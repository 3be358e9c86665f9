"""Predict how long a step takes: its arithmetic over the rate that a device reaches. Pure arithmetic.

A step's floating-point operations are counted, and divided by the device's rate in matrix products times the share of
it that trainings reach. The share comes from published trainings (MEASURED), on a CPU from this project's own. Writing
rollouts is bound by memory instead: each token reads all weights.
"""

from dataclasses import dataclass, replace

from tunesmith.planning import memory
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import Workload

TRAINING_SHARE = {"cuda": 0.43, "cpu": 0.50}
"""The share of the rate in matrix products that a training reaches. cuda: NeMo AutoModel, LoRA on all linear layers of
Llama 3.1 8B, sequences of 4,096 tokens, one H100: 12,473 tokens a second of 34.6 GFLOP each, counted as here, of 989
TFLOP/s (its performance summary, 2025). It agrees with 0.41 to 0.49 of an A100's 312 TFLOP/s for LoRA on Qwen-7B with
recomputed layers, at 1,024 to 4,096 tokens (README of QwenLM/Qwen). For all weights, and for the objectives but SFT, no
measurement stands behind it. cpu: 0.50 to 0.52 with LoRA on SmolLM2-135M, 2 x 256 tokens in bfloat16, one thread, both
in CPU seconds (benchmarks/results/memory-cpu.md)."""
DEQUANTIZATION_SHARE = 0.16
"""The share of the memory's bandwidth at which bitsandbytes turns NF4 into bfloat16: on an A100 QLoRA took 0.09 to 0.22
seconds a sequence longer than LoRA on Qwen-7B, for three passes over its weights (README of QwenLM/Qwen)."""
SECONDS_A_LAYER = 0.0012
"""What transformers' `generate` takes for a layer of a token at least, to start its kernels: 25.5 tokens a second with
Llama-7B on an A100, six times the time that reading its weights takes ("Accelerating Generative AI with PyTorch II",
2023). On a CPU, whose kernels start at once, it is the time of one layer of SmolLM2-135M with an adapter."""


@dataclass(frozen=True)
class Rates:
    """What a device does in a second. name: of the device. flops: floating-point operations in matrix products, in the
    dtype that trainings compute in. bandwidth: bytes of memory read. share: of ``flops`` that a training reaches.
    """

    name: str
    flops: float
    bandwidth: float
    share: float


@dataclass(frozen=True)
class Speed:
    """The duration of one step, in seconds, and the tokens that it trains on, without padding.

    generation: the part in which rollouts are written.
    """

    seconds: float
    tokens: int
    generation: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def predict(shape: Shape, workload: Workload, rates: Rates) -> Speed:
    """The speed of a step of ``workload``: of all of its batches."""
    batches = max(workload.accumulation, -(-workload.rollouts // workload.batch), 1)
    arithmetic = batches * step_flops(shape, workload) / (rates.flops * rates.share)
    generation = generation_seconds(shape, workload, rates)
    seconds = arithmetic + batches * dequantization_seconds(shape, workload, rates) + generation
    rows = workload.batch * (2 if workload.pairs else 1)
    return Speed(seconds, batches * rows * workload.length, generation)


def step_flops(shape: Shape, workload: Workload) -> float:
    """Floating-point operations of one batch, forward and backward.

    A product of a (tokens, in) and an (in, out) matrix is 2 x tokens x in x out of them. The backward pass takes as
    many for the gradient of the input, and as many again where the weight trains: for LoRA 4 for each of the base's
    weights and token, for all weights 6. Recomputed layers add a forward pass. The output head scores trained tokens
    alone, and twice, since TRL computes it again in the backward pass; attention is causal.
    """
    full, tokens = workload.weights == "full", workload.tokens
    linear = 2 * tokens * active_weights(shape)
    adapter = 0 if full else 2 * tokens * shape.lora_parameters(workload.rank, workload.targets)
    attention = shape.layers * 4 * shape.query_width * workload.attended
    head = 0 if workload.objective == "reward" else 2 * workload.scored_tokens * shape.embedding
    forward = linear + adapter + attention
    backward = (2 if full else 1) * linear + 2 * adapter + 2 * attention
    recomputed = forward if workload.machine.checkpointing else 0
    extra = forward if workload.objective == "kto" else 0  # the pass for its KL, without gradients
    if workload.objective == "rlhf":
        extra = 2 * forward  # the reference and the reward model
    return forward + backward + recomputed + extra + (4 if full else 3) * head


def active_weights(shape: Shape) -> int:
    """Weights of the linear layers that a token goes through: of a mixture of experts, those of its own experts."""
    attention = shape.hidden * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    routed = shape.layers * (attention + 3 * shape.hidden * shape.intermediate)
    unnamed = shape.parameters - shape.linear_parameters - shape.embedding - shape.head
    has_experts = unnamed > 0.1 * shape.parameters or shape.linear_parameters > 1.5 * routed
    return routed if has_experts else shape.linear_parameters


def dequantization_seconds(shape: Shape, workload: Workload, rates: Rates) -> float:
    """Seconds of a batch in which a 4-bit base is made bfloat16: in each pass over its layers."""
    if workload.weights != "qlora" or workload.machine.device == "cpu":
        return 0.0
    passes = 3 if workload.machine.checkpointing else 2
    size = shape.linear_parameters * (memory.NF4 + workload.machine.compute_bytes)
    return passes * size / (rates.bandwidth * DEQUANTIZATION_SHARE)


def generation_seconds(shape: Shape, workload: Workload, rates: Rates) -> float:
    """Seconds in which all rollouts of a step are written, as long as they may be.

    Each token takes the reading of the weights and of the cache, half full, or the arithmetic of all rollouts, or the
    start of the kernels, whichever takes longest. Prompts are read first, once a group.
    """
    if not workload.rollouts:
        return 0.0
    frozen = memory.predict(shape, replace(workload, objective="sft", rollouts=0, batch=1)).weights
    cache = memory.predict(shape, workload).kv_cache / 2
    arithmetic = 2 * workload.rollouts * (active_weights(shape) + shape.embedding)
    floor = shape.layers * SECONDS_A_LAYER
    a_token = max((frozen + cache) / rates.bandwidth, arithmetic / (rates.flops * rates.share), floor)
    prompts = workload.rollouts // workload.group * (workload.length - workload.completion)
    prefill = 2 * prompts * active_weights(shape) / (rates.flops * rates.share)
    return prefill + workload.completion * a_token
