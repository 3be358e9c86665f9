"""What the checks of rows know of the base model: how it counts tokens, and how many it takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith.core.ready_rows import Conversation


@dataclass(frozen=True)
class Lengths:
    """How the base model counts tokens, and how many it takes."""

    count: Callable[[Sequence[Conversation]], tuple[list[int], list[int]]]
    """Maps conversations (prompt, completion) to the tokens of each prompt and of each completion."""
    context: int
    """Longest sequence of the model, in tokens."""
    tools: bool
    """Whether the chat template writes tool calls and their results."""
    definitions: bool = False
    """Whether the chat template writes which tools there are."""
    system: bool = True
    """Whether the chat template writes system messages, or refuses them."""
    unreasoned: str = ""
    """What the chat template writes before an answer without reasoning."""
    image_tokens: Callable[[Sequence[tuple[int, int]]], Sequence[int]] | None = None
    """Maps sizes of images (width, height), in pixels, to the tokens of each, with what the processor writes around it;
    None where the base takes no images. `count` gets texts alone, and these tokens are added to those of the prompt."""
    no_images: str = "it was trained on text alone"
    """Why the base takes no images, where it takes none."""
