"""How much memory a training needs, part by part, before it runs. Pure: no model, no file, no clock.

A step has four moments, and its peak is the highest of them; not all parts are there in each. ``loss``: activations
are saved, and the output head runs backward. ``backward``: a layer is recomputed among the inputs of the others.
``update``: all gradients are there. ``rollout``: the KV cache is full. The benchmark `benchmarks/memory.py` puts
predictions beside measurements.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tunesmith.planning import activations
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import FLOAT32, Run

NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes a parameter: 4 bits, an 8-bit constant for every 64 of them, a float32 for every 256 of those: 4.127 bits
(Dettmers et al. 2023, section 3, with double quantization). Embeddings, norms and the output head stay as they were."""
ADAM = 2
"""Moments that AdamW keeps a trained parameter, in its dtype."""

CUDA_CONTEXT = 500_000_000
"""The driver's share of a GPU, which torch's own counter does not see: 400 MB before training loads its kernels
(pytorch/pytorch#109888)."""
CUBLAS = 32 * 2**20
"""cuBLAS's workspace as torch sets it on Hopper; 8 MiB elsewhere (CUBLAS_WORKSPACE_CONFIG)."""
IMPORTS = 610_000_000
"""Resident once torch, transformers, peft and TRL are imported and a trainer is built (torch 2.13 for CPUs)."""
HEAP = {"lora": 0.75, "qlora": 1.0, "full": 0.4}
"""What the C library holds beside the activations, as a share of them. torch asks for aligned memory, for which glibc's
posix_memalign takes no freed piece of the same size (it looks for one with room to align) unless its neighbours were
freed too, and an adapter's small gradients and moments settle between them. Measured with glibc 2.36 on SmolLM2-135M at
1 x 128 to 4 x 256 tokens: 0.7 to 1 for LoRA, 1 to 1.2 for QLoRA, whose quantizing leaves pieces too, 0.2 to 0.55 for
all weights."""

LARGEST, STEP = 1024, 64
"""Largest batch that is looked for, and the step between lengths, in tokens."""


@dataclass(frozen=True)
class Memory:
    """Bytes. Each part is the most it takes; ``total`` is the peak, at the ``moment`` when most is there together."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    kv_cache: int
    reference: int
    reward_model: int
    framework: int
    moment: str
    total: int


def predict(shape: Shape, run: Run) -> Memory:
    """The memory of one step of ``run`` after the first, when the optimizer's moments are there."""
    trained = gradients = trainable(shape, run) * run.trained
    adapter = 0 if run.weights == "full" else trained
    kept, recomputed = activations.kept(shape, run), activations.recomputed(shape, run)
    logits, cache = activations.logits(shape, run), activations.kv_cache(shape, run)
    before = gradients if run.accumulates else _head_gradient(shape, run)
    moments = {
        "loss": kept + logits + casts(shape, run) + before,
        "backward": kept - activations.last_norm(shape, run) + recomputed + before,
        "update": gradients + max(recomputed, activations.layer(shape, run)) + _embedding_gradient(shape, run),
        "rollout": cache + activations.generating(shape, run) if run.rollouts else 0,
    }
    moment = max(moments, key=lambda name: moments[name])
    parts = {
        "weights": trained if run.weights == "full" else _at_rest(shape, run, scores=run.objective == "reward"),
        "adapter": adapter,
        "optimizer": ADAM * trained,
        "reference": _reference(shape, run),
        "reward_model": _at_rest(shape, run, scores=True) + adapter if run.objective == "rlhf" else 0,
        "framework": _framework(shape, run, kept),
    }
    return Memory(
        **parts,
        gradients=gradients,
        activations=kept + recomputed,
        logits=logits,
        kv_cache=cache,
        moment=moment,
        total=sum(parts.values()) + moments[moment],
    )


def trainable(shape: Shape, run: Run) -> int:
    """How many parameters are trained; a reward model trains its head, of one output, whole."""
    if run.weights == "full":
        return _parameters(shape, scores=run.objective == "reward")
    return shape.lora_parameters(run.rank) + (shape.hidden if run.objective == "reward" else 0)


def artifact(shape: Shape, run: Run) -> int:
    """Bytes of what is saved: the adapter, or all weights, in the dtype they were trained in."""
    return trainable(shape, run) * run.trained


def largest(shape: Shape, run: Run, budget: int) -> Run | None:
    """``run`` with the largest batch that fits ``budget`` bytes; else with one of the longest sequences that do.

    Rollouts come in whole groups, all written and trained at once. None where not even STEP tokens fit.
    """

    def fits(candidate: Run) -> bool:
        return predict(shape, candidate).total <= budget

    def batches(count: int) -> Run:
        size = count * run.group
        return replace(run, batch=size, rollouts=size if run.rollouts else 0)

    def lengths(count: int) -> Run:
        length = count * STEP
        return replace(batches(1), length=length, completion=run.completion * length // run.length)

    if fits(batches(1)):
        return batches(_most(LARGEST // run.group, lambda count: fits(batches(count))))
    if fits(lengths(1)):
        return lengths(_most(run.length // STEP, lambda count: fits(lengths(count))))
    return None


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to ``limit`` that fits, where 1 does, and all below one that does."""
    low, high = 1, max(limit, 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _parameters(shape: Shape, *, scores: bool) -> int:
    return shape.parameters - shape.head + shape.hidden if scores else shape.parameters


def _at_rest(shape: Shape, run: Run, *, scores: bool) -> int:
    """Weights that only compute."""
    count = _parameters(shape, scores=scores)
    if run.weights != "qlora":
        return count * run.machine.compute
    return (count - shape.linear_parameters) * run.machine.compute + int(NF4 * shape.linear_parameters)


def _reference(shape: Shape, run: Run) -> int:
    """A copy of what the training starts from: of the adapter, or of the model."""
    return artifact(shape, run) if run.reference else 0


def casts(shape: Shape, run: Run) -> int:
    """Autocast keeps a cast of every trained layer until the forward pass is over."""
    if not run.autocast:
        return 0
    layers = shape.linear_parameters if run.weights == "full" else shape.lora_parameters(run.rank)
    return layers * run.machine.compute


def _head_gradient(shape: Shape, run: Run) -> int:
    """Summed in float32 by TRL while the rest of the backward pass has yet to begin."""
    trains = run.weights == "full" and run.objective != "reward"
    return shape.vocabulary * shape.hidden * FLOAT32 if trains else 0


def _embedding_gradient(shape: Shape, run: Run) -> int:
    """Made whole at the end of the backward pass, then added to that of the output head where both are tied."""
    tied = run.weights == "full" and not shape.head
    return shape.vocabulary * shape.hidden * run.trained if tied else 0


def _framework(shape: Shape, run: Run, kept: int) -> int:
    """What is there beside tensors. kept: bytes of the activations."""
    if run.machine.device == "cuda":
        return CUDA_CONTEXT + CUBLAS
    # Weights that are computed with as they are stored are read where they lie in their file, which stays mapped whole
    # while one of them, such as the embedding of a quantized model, is in use.
    lie_there = run.weights == "qlora" and shape.stored == run.machine.compute
    mapped = shape.linear_parameters * shape.stored if lie_there else 0
    return IMPORTS + mapped + int(HEAP[run.weights] * kept)
