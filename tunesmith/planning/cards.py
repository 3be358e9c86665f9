"""Rates of GPUs from their makers' data sheets: dense bfloat16 products (float32 sums), without sparsity, memory, and
the link to other GPUs of the machine.

Sources: NVIDIA's data sheets of A100, H100, H200, L4, L40S, A10, RTX A6000 and RTX 6000 Ada, its GA102, Ada and
RTX Blackwell architecture papers for the GeForce and RTX PRO cards, the DGX B200 data sheet divided by eight, AWS's
"NVIDIA A10G" data sheet, and AMD's of the MI300X. Where a sheet gives a rate with sparsity, half of it stands here.

Links count in one direction, half of what sheets give: NVLink where it joins all GPUs of a machine (SXM boards and
B200, by NVSwitch), Infinity Fabric of the MI300X (seven links), else PCIe with 16 lanes, also where a bridge joins
pairs (H100 NVL and PCIe, RTX A6000, RTX 3090). GeForce cards exchange through the machine's memory: it may be slower.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A GPU. gigabytes: of 10^9 bytes, as it is sold. flops: floating-point operations a second in bfloat16.
    bandwidth: bytes a second of its memory. link: bytes a second that it sends to other GPUs of its machine, while it
    receives as many.
    """

    name: str
    gigabytes: float
    flops: float
    bandwidth: float
    link: float


PCIE4, PCIE5, NVLINK3, NVLINK4, NVLINK5, INFINITY = 32, 64, 300, 450, 900, 448
"""GB a second in one direction."""


def _card(name: str, gigabytes: float, teraflops: float, gigabytes_a_second: float, link: float) -> Card:
    return Card(name, gigabytes, teraflops * 1e12, gigabytes_a_second * 1e9, link * 1e9)


CARDS = {
    "rtx-3090": _card("RTX 3090", 24, 71.2, 936, PCIE4),
    "rtx-4090": _card("RTX 4090", 24, 165.2, 1008, PCIE4),
    "rtx-5090": _card("RTX 5090", 32, 209.5, 1792, PCIE5),
    "rtx-a6000": _card("RTX A6000", 48, 154.8, 768, PCIE4),
    "rtx-6000-ada": _card("RTX 6000 Ada", 48, 364.2, 960, PCIE4),
    "rtx-pro-6000": _card("RTX PRO 6000", 96, 503.8, 1792, PCIE5),
    "a10g": _card("A10G", 24, 70, 600, PCIE4),
    "a10": _card("A10", 24, 125, 600, PCIE4),
    "l4": _card("L4", 24, 121, 300, PCIE4),
    "l40s": _card("L40S", 48, 362, 864, PCIE4),
    "a100-40gb": _card("A100 40GB", 40, 312, 1555, NVLINK3),
    "a100-80gb": _card("A100 80GB", 80, 312, 2039, NVLINK3),
    "h100-pcie": _card("H100 PCIe", 80, 756, 2000, PCIE5),
    "h100-nvl": _card("H100 NVL", 94, 835, 3900, PCIE5),
    "h100": _card("H100", 80, 989, 3350, NVLINK4),
    "h200": _card("H200", 141, 989, 4800, NVLINK4),
    "b200": _card("B200", 180, 2250, 8000, NVLINK5),
    "mi300x": _card("MI300X", 192, 1307, 5300, INFINITY),
}
"""Cards by the name that `tunesmith plan --gpu` takes."""
ALIASES = {"a100": "a100-80gb", "3090": "rtx-3090", "4090": "rtx-4090", "5090": "rtx-5090"}


def named(name: str) -> Card | None:
    """The card that ``name`` stands for, as a user or torch writes it ("NVIDIA A100-SXM4-80GB"); None if unknown.

    The words of a card's name must all be there; of several such cards it is the one with most of them.
    """
    words = {*re.findall(r"[a-z]*\d+[a-z]*|[a-z]+", name.lower())}
    exact = ALIASES.get(name.lower().strip(), name.lower().strip().replace(" ", "-"))
    if exact in CARDS:
        return CARDS[exact]
    matches = [key for key in CARDS if {*re.findall(r"[a-z]*\d+[a-z]*|[a-z]+", key)} <= words]
    return CARDS[max(matches, key=len)] if matches else None
