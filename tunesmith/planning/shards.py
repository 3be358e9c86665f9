"""What one of several processes of a training holds, in bytes. Pure arithmetic.

Under DDP (`sharding: none`) each process holds everything, and gradients are averaged in buckets beside them. Under
FSDP2 (`full`, torch's `fully_shard` on every decoder layer and on the rest) it holds its shard of each tensor, along
the first dimension, and all of a layer only while that layer computes.
"""

import math
from collections.abc import Iterable

from tunesmith.planning.model_shape import Shape
from tunesmith.planning.optimizers import Tensor
from tunesmith.planning.workload import Workload

GATHERED_LAYERS = 2
"""Copies of a layer's parameters that exist at once: those that compute, and a gathered buffer (in a forward pass the
one that they were copied from, in a backward pass that of the next layer: `wait_for_unshard` of torch 2.13's
`FSDPParamGroup`)."""
NCCL = 688 * 2**20
"""What a communicator of NCCL takes of each GPU, outside of torch: 688 MB among four A100 with NVLink
(NVIDIA/nccl#964); among eight H100, 1.06 GB with the driver's own share (#1685)."""
CODE, CONSTANTS = 0.5, 1 / 64 + 4 / (64 * 256)
"""Bytes a parameter of NF4: its code, which is sharded, and its constants, which each process holds whole, since they
are no parameters but part of bitsandbytes' `QuantState`."""


def parts(tensors: Iterable[Tensor], workload: Workload) -> list[Tensor]:
    """The shapes of what a process holds of tensors of these shapes; where they do not divide evenly, the largest."""
    if workload.sharding == "none":
        return [*tensors]
    return [(-(-rows // workload.processes), *rest) for rows, *rest in tensors]


def numbers(tensors: Iterable[Tensor], workload: Workload) -> int:
    """Numbers that a process holds of tensors of these shapes."""
    return sum(map(math.prod, parts(tensors, workload)))


def share(count: int, workload: Workload) -> int:
    """The part of ``count`` that a process holds, for what is counted in one sum."""
    return -(-count // workload.processes) if workload.sharding == "full" else count


def gathered(shape: Shape, workload: Workload, trained: int) -> int:
    """Bytes of the parameters that are gathered while layers compute, in the dtype of computation; 0 without sharding.

    The embedding and the output head stay gathered from a forward pass to the end of its backward pass. trained: the
    number of trained parameters, which are an adapter's in the layers.
    """
    if workload.sharding == "none":
        return 0
    return ends(shape, workload) + GATHERED_LAYERS * layer(shape, workload, trained)


def ends(shape: Shape, workload: Workload) -> int:
    """Bytes of the embedding and the output head as they are gathered. They exist twice before the first
    layer computes: the gathered buffer is kept until the next one is copied.
    """
    return (shape.embedding + shape.head) * workload.machine.compute_bytes


def layer(shape: Shape, workload: Workload, trained: int) -> int:
    """Bytes of a layer's parameters as they are gathered."""
    c, rest = workload.machine.compute_bytes, shape.parameters - shape.embedding - shape.head
    if workload.weights == "full":
        return rest * c // shape.layers
    frozen = rest * c
    if workload.weights == "qlora":
        frozen = (rest - shape.linear_parameters) * c + int(CODE * shape.linear_parameters)
    return (frozen + trained * c) // shape.layers


def buckets(workload: Workload, trained: int) -> int:
    """Bytes of the buckets in which DDP averages gradients; they are kept throughout the training."""
    return trained * workload.trained_bytes if workload.processes > 1 and workload.sharding == "none" else 0


def reduced(shape: Shape, workload: Workload, trained: int) -> int:
    """Bytes of a layer's gradients while they are reduced: whole, in the dtype of computation, and as they are sent."""
    if workload.sharding == "none":
        return 0
    outside = shape.embedding + shape.head if workload.weights == "full" else 0
    return (trained - outside) // shape.layers * (workload.machine.compute_bytes + workload.trained_bytes)


def reduced_ends(shape: Shape, workload: Workload) -> int:
    """The same for the embedding and the output head, where they are trained, at the end of a backward pass."""
    if workload.sharding == "none" or workload.weights != "full":
        return 0
    return (shape.embedding + shape.head) * (workload.machine.compute_bytes + workload.trained_bytes)
