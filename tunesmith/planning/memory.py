"""Predict the memory of a training, part by part, before it runs. Pure: no model, no file, no clock.

A step has six moments, each with some of the parts, and its peak is the highest of them. ``vision``: images are seen.
``gather``: sharded weights are gathered for the first layer. ``loss``: activations are saved, and the output head runs
backward. ``backward``: a layer is recomputed among the saved inputs of the others. ``update``: all gradients exist.
``rollout``: the KV cache is full. Where several processes share a training, all of it is what one of them takes.
`benchmarks/memory.py` and
`benchmarks/sharding.py` compare predictions with measurements.
"""

import math
from dataclasses import dataclass, replace

from tunesmith.planning import activations, optimizers, shards, vision
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import BF16, FLOAT32, Workload

NF4 = shards.CODE + shards.CONSTANTS
"""Bytes a parameter: 4 bits, an 8-bit constant for every 64 of them, a float32 for every 256 of those: 4.127 bits
(Dettmers et al. 2023, section 3, with double quantization). Embeddings, norms and the output head stay unquantized."""
CUDA_CONTEXT = 500_000_000
"""The driver's share of a GPU, which torch does not count: 400 MB before training loads its kernels
(pytorch/pytorch#109888)."""
CUBLAS = 32 * 2**20
"""cuBLAS's workspace as torch sets it on Hopper; 8 MiB on other GPUs (CUBLAS_WORKSPACE_CONFIG)."""
IMPORTS, ONLINE, QUANTIZING = 700_000_000, 60_000_000, 60_000_000
"""Resident memory after importing torch, transformers, peft and TRL and building a trainer (torch 2.13 for CPUs); what
TRL's online trainers and the verifiers import besides; and bitsandbytes with what quantizing leaves in pieces."""
HEAP, PACKED_HEAP = 0.35, 0.6
"""Overhead of the C library's heap, as a share of what a step holds at its peak and frees. torch asks for aligned
memory, for which glibc's posix_memalign reuses no freed piece of the same size (it looks for one with room to align)
unless its neighbours were freed too, and what stays, such as gradients and moments, settles between; nothing is given
back to the system (`models.device.keep_freed_memory`). Packed batches have a new size in most steps, whose tensors do
not fit where those of the step before were. Measured with glibc 2.36 on the demo: 0.26 to 0.39, and 0.5 to 0.65 for
packed batches (benchmarks/results/memory-cpu.md)."""
KERNEL, KERNELS = 750_000, 1024
"""Bytes that oneDNN keeps for a bfloat16 product of sizes that it has not met before, and how many it keeps (its
primitive cache): 0.61 MB allocated and 0.65 to 0.9 resident for each, from 16 x 576 to 576 x 49152, until 1,100 were
met (torch 2.13, AVX512-BF16). float32 products leave nothing."""
NEW_SIZES = 0.6
"""The share of the steps whose packed batch has a size that is new: 10 MB a step, over 24 steps of the demo's SFT with
LoRA, of the 17 MB that the 23 products of a size take."""


@dataclass(frozen=True)
class Memory:
    """Predicted bytes. Each part is at its own maximum; ``total`` is the peak of a step, reached at ``moment``.

    communication: what processes exchange, gathered parameters and gradients that are being reduced.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    kv_cache: int
    reference: int
    reward_model: int
    communication: int
    framework: int
    moment: str
    total: int


def predict(shape: Shape, workload: Workload) -> Memory:
    """The memory of one step of ``workload`` after the first, when the optimizer's moments exist."""
    trained = gradients = held(shape, workload) * workload.trained_bytes
    seen = shape.vision
    working, seen_saved = (vision.working(seen, workload), vision.saved(seen, workload)) if seen else (0, 0)
    is_full = workload.weights == "full"
    whole = trainable(shape, workload)
    reduced, last_reduced = shards.reduced(shape, workload, whole), shards.reduced_ends(shape, workload)
    kept = shards.gathered(shape, workload, whole) + shards.buckets(workload, whole)
    adapter = 0 if is_full else trained
    saved, recomputation = activations.saved(shape, workload) + seen_saved, activations.recomputation(shape, workload)
    logits, cache = activations.logits(shape, workload), activations.kv_cache(shape, workload)
    present = gradients if workload.accumulates else _head_gradient(shape, workload)
    update = max(recomputation, activations.layer(shape, workload)) + _embedding_gradient(shape, workload)
    moments = {
        "vision": seen_saved + working + present,
        "gather": (shards.ends(shape, workload) if workload.sharding == "full" else 0) + present,
        "loss": saved + logits + autocast_copies(shape, workload) + present,
        "backward": saved - activations.last_norm(shape, workload) + recomputation + present + reduced,
        "update": gradients + max(update + reduced, last_reduced),
        "rollout": cache + activations.generation(shape, workload) if workload.rollouts else 0,
    }
    moment = max(moments, key=lambda name: moments[name])
    transient = moments[moment]
    parts = {
        "weights": _weights(shape, workload, trained),
        "adapter": adapter,
        "optimizer": optimizer_state(shape, workload),
        "reference": trained if workload.reference else 0,
        "reward_model": reward_model(shape, workload),
        "framework": _framework(shape, workload, transient),
    }
    return Memory(
        **parts,
        gradients=gradients,
        activations=saved + recomputation,
        logits=logits,
        kv_cache=cache,
        communication=kept + max(reduced, last_reduced),
        moment=moment,
        total=sum(parts.values()) + kept + transient,
    )


def _weights(shape: Shape, workload: Workload, trained: int) -> int:
    """Bytes of the weights. trained: bytes of those that train."""
    is_full, seen = workload.weights == "full", shape.vision
    own = trained if is_full else _frozen(shape, workload, scores=workload.objective == "reward")
    if seen is None:
        return own
    counted = sum(map(math.prod, seen.trained(workload))) * workload.trained_bytes if is_full else 0
    return own + vision.weights(seen, workload) - counted


def trainable(shape: Shape, workload: Workload) -> int:
    """The number of trained parameters; a reward model trains its head, of one output, in full."""
    if workload.weights == "full":
        seen = sum(map(math.prod, shape.vision.trained(workload))) if shape.vision else 0
        return _parameters(shape, scores=workload.objective == "reward") + seen
    tensors = trained_tensors(shape, workload) + trained_embeddings(shape, workload)
    return sum(map(math.prod, tensors)) + _expert_adapters(shape, workload)


def held(shape: Shape, workload: Workload) -> int:
    """The number of trained parameters that a process holds: an adapter's are whole in each (`training.sharding`)."""
    if workload.sharding == "none" or workload.weights != "full":
        return trainable(shape, workload)
    tensors = trained_tensors(shape, workload) + trained_embeddings(shape, workload)
    return shards.numbers(tensors, workload) + shards.share(_expert_adapters(shape, workload), workload)


def _expert_adapters(shape: Shape, workload: Workload) -> int:
    """Parameters of adapters of experts kept in one tensor, which are not among the linear layers."""
    if workload.weights == "full" or workload.targets:
        return 0
    return workload.rank * (shape.lora_rank_1 - sum(map(sum, shape.linears)))


def trained_tensors(shape: Shape, workload: Workload) -> list[tuple[int, ...]]:
    """The shapes of the trained tensors but embeddings, vectors of all norms and biases as one."""
    scores, head = workload.objective == "reward", shape.head // shape.hidden
    seen = shape.vision.trained(workload) if shape.vision else []
    if workload.weights == "full":
        rest = shape.parameters - shape.linear_parameters - shape.embedding - shape.head
        heads = [(1, shape.hidden)] if scores else [(head, shape.hidden)] if head else []
        return [*((outputs, inputs) for inputs, outputs in shape.linears), *heads, (max(rest, 0),), *seen]
    adapted = shape.adapted(workload.targets)
    tensors: list[tuple[int, ...]] = [size for i, o in adapted for size in ((workload.rank, i), (o, workload.rank))]
    tensors += seen
    if workload.dora:
        tensors += [(outputs,) for _, outputs in adapted]
    if scores:
        tensors.append((1, shape.hidden))
    elif workload.embeddings and head:
        tensors.append((head, shape.hidden))
    return tensors


def trained_embeddings(shape: Shape, workload: Workload) -> list[tuple[int, ...]]:
    """The shape of the token embedding where it trains."""
    trains = workload.weights == "full" or workload.embeddings
    return [(shape.vocabulary, shape.hidden)] if trains else []


def optimizer_state(shape: Shape, workload: Workload) -> int:
    """Bytes of the optimizer's state on the device."""
    tensors, embeddings = trained_tensors(shape, workload), trained_embeddings(shape, workload)
    if workload.weights == "full":
        tensors, embeddings = shards.parts(tensors, workload), shards.parts(embeddings, workload)
    return optimizers.state(
        workload.optimizer,
        tensors,
        embeddings,
        trained_bytes=workload.trained_bytes,
        device=workload.machine.device,
    )


def artifact(shape: Shape, workload: Workload) -> int:
    """Bytes on disk of the trained weights, an adapter or all, in the dtype they are trained in."""
    return trainable(shape, workload) * workload.trained_bytes


def _parameters(shape: Shape, *, scores: bool) -> int:
    return shape.parameters - shape.head + shape.hidden if scores else shape.parameters


def reward_model(shape: Shape, workload: Workload) -> int:
    """Bytes of RLHF's reward model with its adapter, whole on every process: TRL moves it to the device as it is
    (`prepare_model(..., evaluation_mode=True)` in its online trainers).
    """
    if workload.objective != "rlhf":
        return 0
    alone = replace(workload, processes=1, sharding="none")
    adapter = 0 if workload.weights == "full" else trainable(shape, alone) * workload.trained_bytes
    return _frozen(shape, alone, scores=True) + adapter


def _frozen(shape: Shape, workload: Workload, *, scores: bool) -> int:
    """Weights that are not trained: in the dtype of products, or quantized."""
    heads = [(1, shape.hidden)] if scores else [(shape.head // shape.hidden, shape.hidden)]
    rest = shape.parameters - shape.linear_parameters - shape.embedding - shape.head
    linears = shards.numbers([(outputs, inputs) for inputs, outputs in shape.linears], workload)
    others = shards.numbers([(shape.vocabulary, shape.hidden), *heads, (rest,)], workload)
    if workload.weights != "qlora":
        return (linears + others) * workload.machine.compute_bytes
    quantized = shards.CODE * linears + shards.CONSTANTS * shape.linear_parameters
    return others * workload.machine.compute_bytes + int(quantized)


def autocast_copies(shape: Shape, workload: Workload) -> int:
    """Copies of all trained layers in a lower precision, which autocast keeps until the forward pass is over."""
    if not workload.autocast:
        return 0
    full = workload.weights == "full"
    layers = shape.linear_parameters if full else shape.lora_parameters(workload.rank, workload.targets)
    return layers * workload.machine.compute_bytes


def _head_gradient(shape: Shape, workload: Workload) -> int:
    """Gradient of the output head, which TRL sums in float32 before the rest of the backward pass begins."""
    trains = (workload.weights == "full" or workload.embeddings) and workload.objective != "reward"
    return shape.embedding * FLOAT32 if trains else 0


def _embedding_gradient(shape: Shape, workload: Workload) -> int:
    """Gradient of a tied embedding, which the end of the backward pass adds to that of the output head."""
    tied = (workload.weights == "full" or workload.embeddings) and not shape.head
    return shape.embedding * workload.trained_bytes if tied else 0


def _framework(shape: Shape, workload: Workload, transient: int) -> int:
    """Memory beside tensors: libraries, the driver, the heap. transient: bytes that a step holds at its peak."""
    if workload.machine.device == "cuda":
        return CUDA_CONTEXT + CUBLAS + shards.NCCL * (workload.processes > 1)
    # Weights in the dtype of their file are read from the mapped file, which stays mapped as a whole while one of them,
    # such as the embedding of a quantized model, is in use.
    from_file = workload.weights == "qlora" and shape.stored_bytes == workload.machine.compute_bytes
    mapped = shape.linear_parameters * shape.stored_bytes if from_file else 0
    imports = IMPORTS + ONLINE * bool(workload.rollouts) + QUANTIZING * (workload.weights == "qlora")
    heap = PACKED_HEAP if workload.packed else HEAP
    return imports + mapped + int(heap * transient) + kept_kernels(shape, workload)


def kept_kernels(shape: Shape, workload: Workload) -> int:
    """Bytes that oneDNN keeps on a CPU for products of all sizes that a training meets.

    Each number of tokens in a batch makes every product of a layer new: those of the linear layers and of the adapters,
    forward and backward.
    """
    if workload.machine.device != "cpu" or workload.machine.compute_bytes != BF16:
        return 0
    sizes = {*shape.linears}
    low_rank = {inputs for inputs, _ in sizes}, {outputs for _, outputs in sizes}
    is_full = workload.weights == "full"
    products = 3 * len(sizes) if is_full else 2 * len(sizes) + 3 * sum(map(len, low_rank))
    sizes_met = workload.shapes * (NEW_SIZES if workload.packed else 1)
    return int(KERNEL * min(KERNELS, products * sizes_met if workload.shapes else KERNELS))
