"""The prompts of requests, in tokens of the served version: what must not be in them, and whether they fit.

Loading the tokenizer imports transformers.
"""

from collections.abc import Iterator
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tunesmith.core.params import TemplateKwargs
from tunesmith.core.ready_rows import Message, Tool
from tunesmith.models import chat, chat_template
from tunesmith.serving import engine_commands
from tunesmith.serving.engine_commands import ServedModel
from tunesmith.serving.gateway.requests import Chat, Completion, RequestError, for_template
from tunesmith.serving.settings import Serve


class PromptReader:
    """Reads prompts as the engine will. May be used from any thread, but from one at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
        """context: the most tokens of a prompt and its answer together."""
        self.tokenizer, self.context = tokenizer, context
        self._control_tokens = set(tokenizer.convert_tokens_to_ids(chat_template.special_tokens(tokenizer)))

    def count(self, request: Chat | Completion) -> int:
        """Return the number of tokens of a request's prompt.

        Raises RequestError where the chat template refuses the conversation, or where a text in it holds one of the
        template's control tokens: it would end its turn and begin another's.
        """
        if isinstance(request, Completion):
            return len(self.tokenizer.encode(request.prompt))
        asked = request.engine_fields()
        written = {"messages": for_template(asked["messages"]), "tools": asked.get("tools")}
        try:
            for place, value in written.items():
                self._refuse_control_tokens(place, value)
            text = self.tokenizer.apply_chat_template(
                written["messages"],
                tools=written["tools"],
                add_generation_prompt=True,
                tokenize=False,
                **(request.chat_template_kwargs or {}),
            )
            return len(self.tokenizer.encode(text, add_special_tokens=False))
        except RequestError:
            raise
        except Exception as error:  # a template may raise anything for a conversation that it cannot write
            raise RequestError(f"messages: the chat template cannot write them: {error}") from None

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
    return PromptReader(tokenizer, engine_commands.context_length(served, settings))


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
