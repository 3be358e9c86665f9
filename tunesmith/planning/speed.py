"""Predict how long a step takes: its arithmetic over the rate that a device reaches. Pure arithmetic.

A step's floating-point operations are counted, and divided by the device's rate in matrix products times the share of
it that trainings reach. The share comes from published trainings (MEASURED), on a CPU from this project's own. Writing
rollouts is bound by memory instead: each token reads all weights.

Processes exchange gradients, and gather sharded weights, while they compute: a step takes the longer of both.
"""

from dataclasses import dataclass, replace

from tunesmith.planning import memory, shards
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
LINK_SHARE = 0.78
"""The share of a link's rate that collectives reach: 350 of 450 GB/s between eight H100 with NVLink, by a maintainer of
NCCL (NVIDIA/nccl#864). It is taken for every link."""


@dataclass(frozen=True)
class Rates:
    """What a device does in a second. name: of the device. flops: floating-point operations in matrix products, in the
    dtype that trainings compute in. bandwidth: bytes of memory read. share: of ``flops`` that a training reaches. link:
    bytes sent to other devices of the machine.
    """

    name: str
    flops: float
    bandwidth: float
    share: float
    link: float = 0.0


@dataclass(frozen=True)
class Speed:
    """The duration of one step, in seconds, and the tokens that all processes train on in it, without padding.

    generation: the part in which rollouts are written. communication: what processes take to exchange what they must,
    mostly while they compute.
    """

    seconds: float
    tokens: int
    generation: float = 0.0
    communication: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def predict(shape: Shape, workload: Workload, rates: Rates) -> Speed:
    """The speed of a step of ``workload``: of all of its batches."""
    batches = max(workload.accumulation, -(-workload.rollouts // workload.batch), 1)
    arithmetic = batches * step_flops(shape, workload) / (rates.flops * rates.share)
    generation = generation_seconds(shape, workload, rates)
    computing = arithmetic + batches * dequantization_seconds(shape, workload, rates)
    communication = exchanged(shape, workload, batches) / (rates.link * LINK_SHARE) if workload.processes > 1 else 0.0
    rows = workload.processes * workload.batch * (2 if workload.pairs else 1)
    seconds = max(computing, communication) + generation
    return Speed(seconds, batches * rows * workload.length, generation, communication)


def exchanged(shape: Shape, workload: Workload, batches: int) -> float:
    """Bytes that a process sends, and receives, in a step of ``batches`` batches.

    In a ring of n processes, to gather or to reduce and scatter a tensor sends (n - 1) / n of it, and to reduce it for
    all twice as much (Thakur et al. 2005). Sharded weights are gathered for each pass, and again for its backward pass;
    gradients are reduced after each batch if they are sharded, else once a step.
    """
    ring = (workload.processes - 1) / workload.processes
    trained = memory.trainable(shape, workload)
    if workload.sharding == "none":
        return 2 * ring * trained * workload.trained_bytes
    passes = 3 if workload.objective in ("kto", "rlhf") else 2  # with KTO's pass for its KL, or that of the reference
    return batches * ring * (passes * _weights(shape, workload, trained) + trained * workload.trained_bytes)


def _weights(shape: Shape, workload: Workload, trained: int) -> int:
    """Bytes of all weights as they are gathered."""
    return shards.ends(shape, workload) + shape.layers * shards.layer(shape, workload, trained)


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
    start of the kernels, or the gathering of sharded weights, whichever takes longest. Prompts are read first, once a
    group.
    """
    if not workload.rollouts:
        return 0.0
    alone = replace(workload, objective="sft", rollouts=0, batch=1, processes=1, sharding="none")
    frozen = memory.predict(shape, alone).weights
    cache = memory.predict(shape, workload).kv_cache / 2
    arithmetic = 2 * workload.rollouts * (active_weights(shape) + shape.embedding)
    floor = shape.layers * SECONDS_A_LAYER
    a_token = max((frozen + cache) / rates.bandwidth, arithmetic / (rates.flops * rates.share), floor)
    if workload.sharding == "full":  # each token gathers all weights
        ring = (workload.processes - 1) / workload.processes
        gathered = _weights(shape, workload, memory.trainable(shape, workload))
        a_token = max(a_token, ring * gathered / (rates.link * LINK_SHARE))
    prompts = workload.rollouts // workload.group * (workload.length - workload.completion)
    prefill = 2 * prompts * active_weights(shape) / (rates.flops * rates.share)
    return prefill + workload.completion * a_token
