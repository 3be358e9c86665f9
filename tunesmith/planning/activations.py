"""What a step of training holds beside weights: activations, logits, a KV cache. Bytes; pure arithmetic.

Counted tensor by tensor, as autograd saves them, after Korthikanti et al. 2022 (section 4.1), with what differs here:
attention is fused (its scores are never stored), the MLP is gated (SwiGLU), norms are RMS norms computed in float32,
and LoRA saves the inputs of its A matrices where a frozen layer would save none. tests/test_memory.py holds the counts
to what autograd saves. Other architectures are counted as if they were of this kind; an MLP without a gate needs less.
"""

from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import FLOAT32, Run

TILE_TOKENS, TILE_WIDTH = 4096, 32768
"""TRL 1.16 multiplies by the output head in tiles of at most so many tokens and words (TOKEN_CHUNK_SIZE in
trl/kernels/chunked_logprob.py, _CHUNKED_LOGPROB_CHUNK_SIZE in trl/trainer/utils.py)."""
TORCH_TILES = 7.25
"""Without Triton, as on a CPU, the backward of a tile holds seven more of its size in float32, and one of bytes
(`_backward_tile` there: y, z, log_p, p, grad, the target as one-hot and as bool, and the difference from p)."""


def layer(shape: Shape, run: Run) -> int:
    """What autograd saves of one layer."""
    c, width, hidden = run.machine.compute, shape.intermediate, shape.hidden
    norms = 2 * hidden * FLOAT32 + (2 * hidden * run.stream if run.weights == "full" else 0)
    # Queries, output and log-sum-exp; rows that attend one by one have an output each, then all of them together.
    attention = (3 if run.row_by_row else 2) * shape.attention * c + shape.heads * FLOAT32
    gated = 3 * width * c  # gate, its SiLU, and up; their product is the input of down
    low_rank = 0 if run.weights == "full" else run.rank * c * len(shape.linears) // shape.layers
    a_token = norms + _inputs(shape, run) + attention + gated + low_rank
    # Keys and values, repeated for every query head where SDPA has a mask.
    a_key = 2 * (shape.kv_heads * shape.head_dim if run.row_by_row else shape.attention) * c
    masks = 0 if run.row_by_row else sum(one.mask for one in run.passes) * c
    return run.tokens * a_token + sum(one.rows * one.keys for one in run.passes) * a_key + masks


def _inputs(shape: Shape, run: Run) -> int:
    """Inputs of the linear layers of one layer, a token: saved for the gradients of what is trained.

    Layers with the same input share it, except under autocast where all weights are trained: then the input is float32,
    and each has a cast of its own.
    """
    c, hidden, width = run.machine.compute, shape.hidden, shape.intermediate
    shared = run.weights != "full" or not run.autocast
    return ((2 if shared else 5) * hidden + width) * c


def kept(shape: Shape, run: Run) -> int:
    """What is saved from the forward to the backward pass: all of every layer, or its input alone."""
    if not run.machine.checkpointing:
        return shape.layers * layer(shape, run) + last_norm(shape, run)
    masks = sum(one.mask for one in run.passes)  # of bytes
    return (shape.layers + 1) * run.tokens * shape.hidden * run.stream + masks + last_norm(shape, run)


def last_norm(shape: Shape, run: Run) -> int:
    """Input and output of the norm before the output head, which are the first that a backward pass frees."""
    return run.tokens * shape.hidden * (FLOAT32 + run.machine.compute)


def recomputed(shape: Shape, run: Run) -> int:
    """A layer in its backward pass where layers are recomputed: what it saves, and the gradients on their way.

    These are most at the input of the MLP's last layer, to which the layer and its adapter send one each, to be added;
    before, a 4-bit weight is there dequantized.
    """
    if not run.machine.checkpointing:
        return 0
    c, hidden, width = run.machine.compute, shape.hidden, shape.intermediate
    largest = max((inputs * outputs for inputs, outputs in shape.linears), default=0)
    summed = max(run.tokens * width, largest if run.weights == "qlora" else 0) * c
    return layer(shape, run) + run.tokens * (width + 2 * hidden) * c + summed


def logits(shape: Shape, run: Run) -> int:
    """The output head at the beginning of the backward pass. A reward model's is one number a token: none."""
    if run.objective == "reward":
        return 0
    rows, width = min(run.scored, TILE_TOKENS), min(shape.vocabulary, TILE_WIDTH)
    held = rows * TILE_WIDTH * run.machine.compute
    if run.machine.device == "cpu":
        held += int(TORCH_TILES * rows * width * FLOAT32)
    if run.weights == "full" and run.autocast:
        held += width * shape.hidden * run.machine.compute  # a tile of the head itself, cast
    return held + run.scored * shape.hidden * FLOAT32  # gradients of the last hidden states


def kv_cache(shape: Shape, run: Run) -> int:
    """Keys and values of all rollouts when their last token is written."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * run.machine.compute * run.rollouts * run.length


def generating(shape: Shape, run: Run) -> int:
    """Beside the cache while rollouts are written: a layer of the prompts' pass, or the words' probabilities."""
    c, prompt = run.machine.compute, run.length - run.completion
    prefill = run.rollouts * prompt * ((4 * shape.hidden + 3 * shape.intermediate) * c + prompt * (1 + c))
    return max(prefill, 3 * run.rollouts * shape.vocabulary * FLOAT32)
