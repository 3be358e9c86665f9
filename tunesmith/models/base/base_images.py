"""What the base model makes of images: whether it takes any, and the tokens of each, before any weight is loaded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

PROCESSORS = ("processor_config.json", "preprocessor_config.json")
"""Files of which a base that takes images has at least one."""


@dataclass(frozen=True)
class ImageTokens:
    """A picklable counter of the tokens that the processor of a base writes for images."""

    base: Path

    def __call__(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """Return the tokens of each image. sizes: width and height, in pixels."""
        found = self._processor._get_num_multimodal_tokens(image_sizes=[[height, width] for width, height in sizes])
        return list(map(int, found["num_image_tokens"]))

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoProcessor  # with torch, which text alone does not need

        return AutoProcessor.from_pretrained(self.base, trust_remote_code=False)

    def __getstate__(self) -> dict[str, Path]:
        return {"base": self.base}


def counter(base: Path) -> ImageTokens | str:
    """Return the counter of a base that takes images; of any other, why it takes none."""
    if "vision_config" not in json.loads((base / "config.json").read_text()):
        return "its config.json has no vision_config: it was trained on text alone"
    if not any((base / name).exists() for name in PROCESSORS):
        return f"it has no processor, neither {' nor '.join(PROCESSORS)}"
    return ImageTokens(base)
