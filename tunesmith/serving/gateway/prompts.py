"""The prompts of requests, in tokens of the served version: what must not be in them, and whether they fit.

Loading the tokenizer imports transformers.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tunesmith.core.params import TemplateKwargs
from tunesmith.core.ready_rows import ImagePart, Message, Tool
from tunesmith.models import chat, chat_template
from tunesmith.models.base import base_images
from tunesmith.models.rendering import style
from tunesmith.serving import engine_commands
from tunesmith.serving.engine_commands import ServedModel
from tunesmith.serving.gateway.requests import Chat, Completion, RequestError, for_template
from tunesmith.serving.settings import Serve

if TYPE_CHECKING:  # which imports torch, for models that read images
    from tunesmith.models.images.row_images import RowImages


class PromptReader:
    """Reads prompts as the engine will. May be used from any thread, but from one at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int, images: "RowImages | None" = None) -> None:
        """context: the most tokens of a prompt and its answer together. images: of a model that reads images."""
        self.tokenizer, self.context, self._images = tokenizer, context, images
        self._control_tokens = set(tokenizer.convert_tokens_to_ids(chat_template.special_tokens(tokenizer)))

    @property
    def reads_images(self) -> bool:
        return self._images is not None

    def count(self, request: Chat | Completion) -> int:
        """Return the number of tokens of a request's prompt, with those of its images.

        Raises RequestError where the chat template refuses the conversation, or where a text in it holds one of the
        template's control tokens: it would end its turn and begin another's, or stand for an image.
        """
        if isinstance(request, Completion):
            return self._count_text(request.prompt)
        asked = request.engine_fields()
        messages = [_without_urls(message) for message in for_template(asked["messages"])]
        written = {"messages": messages, "tools": asked.get("tools")}
        try:
            for place, value in written.items():
                self._refuse_control_tokens(place, value)
            text = self.tokenizer.apply_chat_template(
                style.in_parts(self.tokenizer, messages),
                tools=written["tools"],
                add_generation_prompt=True,
                tokenize=False,
                **(request.chat_template_kwargs or {}),
            )
            if self._images is not None:
                text = self._images.expand(text, _images(request))
            return len(self.tokenizer.encode(text, add_special_tokens=False))
        except RequestError:
            raise
        except Exception as error:  # a template may raise anything for a conversation that it cannot write
            raise RequestError(f"messages: the chat template cannot write them: {error}") from None

    def _count_text(self, prompt: str) -> int:
        tokens = self.tokenizer.encode(prompt)
        if self._images is not None and self._images.token in tokens:
            raise RequestError(f"prompt: {self._images.marker!r} would be read as an image that is not there")
        return len(tokens)

    def encode(
        self, prompt: list[Message], tools: list[Tool] | None, template_kwargs: TemplateKwargs | None
    ) -> list[int]:
        """Return a prompt as token ids, as in the evaluation. template_kwargs: where not the template's own."""
        tokenizer = chat_template.with_kwargs(self.tokenizer, template_kwargs or {})
        return chat.encode_prompt(tokenizer, prompt, tools)

    def decode(self, tokens: list[int]) -> str:
        """Return an answer as text, without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def _refuse_control_tokens(self, place: str, value: Any) -> None:
        """Raise RequestError for a text with a control token, in any spelling that the tokenizer reads as one."""
        unknown = self.tokenizer.unk_token
        for text in _texts(value):
            found = self._control_tokens.intersection(self.tokenizer.encode(text, add_special_tokens=False))
            for token in self.tokenizer.convert_ids_to_tokens(sorted(found)):
                if token == unknown and token not in text:  # it stands for a character without a token
                    continue
                raise RequestError(f"{place}: {token!r} would be read as a control token of the chat template")


def reader(served: ServedModel, settings: Serve) -> PromptReader:
    """Return the reader of a model's prompts."""
    tokenizer = AutoTokenizer.from_pretrained(served.folder, local_files_only=True)
    context = engine_commands.context_length(served, settings)
    if base_images.why_none(served.full_weights):
        return PromptReader(tokenizer, context)
    from tunesmith.models.images.row_images import RowImages

    return PromptReader(tokenizer, context, RowImages(served.full_weights))


def _without_urls(message: dict[str, Any]) -> dict[str, Any]:
    """Return a turn without what its images hold, which is no text."""
    if not isinstance(message.get("content"), list):
        return message
    content = [{"type": "image"} if part["type"] == "image" else part for part in message["content"]]
    return {**message, "content": content}


def _images(request: Chat) -> list[ImagePart]:
    """Return the images of a request by their sizes, which decide their tokens."""
    sizes = [image.size for _, image in request.images()]
    return [{"type": "image", "image": "", "width": width, "height": height} for width, height in sizes]


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in JSON of any depth, names of fields included."""
    remaining = [value]
    while remaining:
        item = remaining.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            remaining += [*item, *item.values()]
        elif isinstance(item, list):
            remaining += item
