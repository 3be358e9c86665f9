"""Whether the base model takes images, and what tokens it makes of them, before any weight is loaded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tunesmith.core.ready_rows import Conversation, ImagePart, TextPart
from tunesmith.models import chat

PROCESSORS = ("processor_config.json", "preprocessor_config.json")
"""Files of which a base that takes images has at least one."""
QUESTION: TextPart = {"type": "text", "text": "?"}


@dataclass(frozen=True)
class ImageTokens:
    """A picklable counter of the tokens that images add to a prompt, with what the template writes around them."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """Return the tokens of each image. sizes: width and height, in pixels."""
        kinds = list(dict.fromkeys(sizes))
        asked = [Conversation([{"role": "user", "content": [QUESTION]}], [])]
        for width, height in kinds:
            image: ImagePart = {"type": "image", "image": "", "width": width, "height": height}
            asked.append(Conversation([{"role": "user", "content": [image, QUESTION]}], []))
        (alone, *prompts), _ = chat.count_tokens(self.tokenizer, asked)
        tokens = dict(zip(kinds, prompts, strict=True))
        return [tokens[size] - alone for size in sizes]


def why_none(base: Path) -> str:
    """Return why the base takes no images; empty where it takes them."""
    if "vision_config" not in json.loads((base / "config.json").read_text()):
        return "its config.json has no vision_config: it was trained on text alone"
    if not any((base / name).exists() for name in PROCESSORS):
        return f"it has no processor, neither {' nor '.join(PROCESSORS)}"
    return ""
