"""Memory of a training step besides weights, in bytes: activations, logits, KV cache. Pure arithmetic.

Counts the tensors that autograd saves, after Korthikanti et al. 2022 (section 4.1). The differences: attention is
fused (its scores are never stored), the MLP is gated (SwiGLU), norms are RMS norms computed in float32, and LoRA saves
the inputs of its A matrices where a frozen layer would save none. tests/planning/test_memory.py compares the counts
with autograd's own. Other architectures are counted as if they were of this kind; an MLP without a gate needs less.
"""

from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import FLOAT32, Workload

TILE_TOKENS, TILE_WIDTH = 4096, 32768
"""Largest tile, in tokens and vocabulary entries, in which TRL 1.16 multiplies by the output head (TOKEN_CHUNK_SIZE in
trl/kernels/chunked_logprob.py, _CHUNKED_LOGPROB_CHUNK_SIZE in trl/trainer/utils.py)."""
CPU_TILE_WIDTH = 4096
"""The same in vocabulary entries on a CPU (`tunesmith.training.trainer_config.HEAD_TILE`)."""
TORCH_TILES = 7.25
"""Tiles of float32 that the backward pass of a tile holds besides it without Triton, as on a CPU: seven, and one of
bytes (`_backward_tile` there: y, z, log_p, p, grad, the target as one-hot and as bool, and the difference from p)."""

ATTENTION_INPUTS, MLP_INPUTS = frozenset({"q_proj", "k_proj", "v_proj"}), frozenset({"gate_proj", "up_proj"})
"""Linear layers of one input each, the output of a norm."""
KNOWN_LINEARS = ATTENTION_INPUTS | MLP_INPUTS | {"o_proj", "down_proj"}


def layer(shape: Shape, workload: Workload) -> int:
    """Tensors that autograd saves in one layer."""
    c, width, hidden = workload.machine.compute_bytes, shape.intermediate, shape.hidden
    norms = 2 * hidden * FLOAT32 + (2 * hidden * workload.stream_bytes if workload.weights == "full" else 0)
    # Queries, output and log-sum-exp; rows that attend one by one have an output each, then one concatenated. What
    # attends in another dtype than the layers compute in is converted, so that the layers save an output of their own.
    a = FLOAT32 if workload.attends_in_float32 else c
    outputs = (1 if workload.row_by_row or a != c else 0) * c
    attention = shape.query_width * (2 * a + outputs) + shape.heads * FLOAT32
    gated = 3 * width * c  # gate, its SiLU, and up; their product is the input of down
    per_token = norms + _inputs(shape, workload) + attention + gated + _adapters(shape, workload)
    # Keys and values, repeated for every query head where SDPA has a mask.
    per_key = 2 * (shape.kv_heads * shape.head_dim if workload.packed else shape.query_width) * a
    keys = sum(forward.rows * forward.keys for forward in workload.passes)
    return workload.tokens * per_token + keys * per_key + masks(workload) * a


def masks(workload: Workload) -> int:
    """Entries of the attention masks of a batch; packed rows have none."""
    return 0 if workload.packed else sum(forward.rows * forward.queries * forward.keys for forward in workload.passes)


def _adapters(shape: Shape, workload: Workload) -> int:
    """Tensors that the adapters of one layer save for one token: the output of A, and for DoRA's magnitudes, which
    multiply both, the outputs of the layer and of B.
    """
    if workload.weights == "full":
        return 0
    adapted = shape.adapted(workload.targets)
    numbers = workload.rank * len(adapted)
    if workload.dora:
        numbers += 2 * sum(outputs for _, outputs in adapted)
    return numbers * workload.machine.compute_bytes // shape.layers


def _inputs(shape: Shape, workload: Workload) -> int:
    """Inputs of the linear layers of one layer, for one token, saved for the gradients of trained weights.

    Layers with the same input share it, except where all weights are trained under autocast: then the input is float32,
    and each layer casts its own copy. Layers without an adapter save none.
    """
    c, hidden, width = workload.machine.compute_bytes, shape.hidden, shape.intermediate
    if workload.weights == "full" or not KNOWN_LINEARS.issuperset(workload.targets) or not workload.targets:
        shared = workload.weights != "full" or not workload.autocast
        return ((2 if shared else 5) * hidden + width) * c
    adapted = {*workload.targets}
    inputs = hidden * bool(adapted & ATTENTION_INPUTS) + hidden * bool(adapted & MLP_INPUTS)
    return (inputs + width * ("down_proj" in adapted)) * c


def saved(shape: Shape, workload: Workload) -> int:
    """Tensors saved from the forward to the backward pass: all of every layer's, or its input alone."""
    if not workload.machine.checkpointing:
        return shape.layers * layer(shape, workload) + last_norm(shape, workload)
    inputs = (shape.layers + 1) * workload.tokens * shape.hidden * workload.stream_bytes
    return inputs + masks(workload) + last_norm(shape, workload)  # masks of bytes


def last_norm(shape: Shape, workload: Workload) -> int:
    """Input and output of the norm before the output head, the first tensors that a backward pass frees."""
    return workload.tokens * shape.hidden * (FLOAT32 + workload.machine.compute_bytes)


def recomputation(shape: Shape, workload: Workload) -> int:
    """One layer in its backward pass under gradient checkpointing: its saved tensors and the gradients in flight.

    The gradients peak at the input of the MLP's last layer, where those of the layer and of its adapter are added; just
    before, a 4-bit weight is dequantized there.
    """
    if not workload.machine.checkpointing:
        return 0
    c, hidden, width = workload.machine.compute_bytes, shape.hidden, shape.intermediate
    largest = max((inputs * outputs for inputs, outputs in shape.linears), default=0)
    summed = max(workload.tokens * width, largest if workload.weights == "qlora" else 0) * c
    return layer(shape, workload) + workload.tokens * (width + 2 * hidden) * c + summed


def logits(shape: Shape, workload: Workload) -> int:
    """The output head at the beginning of the backward pass. A reward model's, one number a token, counts as 0."""
    if workload.objective == "reward":
        return 0
    tile = CPU_TILE_WIDTH if workload.machine.device == "cpu" else TILE_WIDTH
    rows, width = min(workload.scored_tokens, TILE_TOKENS), min(shape.vocabulary, tile)
    size = rows * tile * workload.machine.compute_bytes
    if workload.machine.device == "cpu":
        size += int(TORCH_TILES * rows * width * FLOAT32)
    if workload.weights == "full" and workload.autocast:
        size += width * shape.hidden * workload.machine.compute_bytes  # a tile of the head itself, cast
    return size + workload.scored_tokens * shape.hidden * FLOAT32  # gradients of the last hidden states


def kv_cache(shape: Shape, workload: Workload) -> int:
    """Keys and values of all rollouts when their last token is written."""
    a_token = 2 * shape.layers * shape.kv_heads * shape.head_dim * workload.machine.compute_bytes
    return a_token * workload.rollouts * workload.length


def generation(shape: Shape, workload: Workload) -> int:
    """Peak besides the cache while rollouts are written: a layer of the prefill, or the next token's probabilities."""
    c, prompt = workload.machine.compute_bytes, workload.length - workload.completion
    prefill = workload.rollouts * prompt * ((4 * shape.hidden + 3 * shape.intermediate) * c + prompt * (1 + c))
    return max(prefill, 3 * workload.rollouts * shape.vocabulary * FLOAT32)
