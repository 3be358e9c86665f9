"""What a request may ask of an engine: fields on a list, each with bounds. Any other field is refused by its name.

An engine ignores some fields of OpenAI's API, and lets others replace the chat template that the model was evaluated
with, or generate without end. None of those is on the list. A null counts as absent, as in OpenAI's API.
"""

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from tunesmith.core.params import TemplateKwargs
from tunesmith.serving.gateway.contents import FORMS, MAX_FIELDS, Content, Image, ImageUrl, Part, Text

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=64)]
SHOW_IMAGES = ("user", "tool")
"""Roles whose turns may have images, as in ready rows."""
LEAST_TEMPERATURE = 0.01
"""Least temperature of sampling: at smaller ones probabilities overflow, which ends a GPU's process."""
MAX_PROBLEMS, MAX_NAME = 5, 64
"""Most problems of a request that its refusal names, and characters of a field's name there."""


class RequestError(ValueError):
    """A request that is refused, with the reason for its client."""


class CalledFunction(Part):
    name: Name
    arguments: str
    """The text of a JSON object."""

    @field_validator("arguments")
    @classmethod
    def _is_object(cls, value: str) -> str:
        try:
            arguments = json.loads(value)
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise ValueError("not the text of a JSON object")
        return value


class ToolCall(Part):
    id: Name
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class Message(Part):
    role: Literal["system", "user", "assistant", "tool"]
    content: Content = ""
    reasoning_content: str | None = None
    """Reasoning of an earlier answer, of which the template decides what it writes."""
    name: Name | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=128, fail_fast=True)] | None = None
    tool_call_id: Name | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise ValueError("content is missing")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls are an assistant's, not a {self.role}'s")
        if isinstance(self.content, list):
            texts = [part.text for part in self.content if isinstance(part, Text)]
            if len(texts) == len(self.content):
                self.content = "\n".join(texts)
            elif self.role not in SHOW_IMAGES:
                raise ValueError(f"an image is shown by a user or a tool, not by the {self.role}")
        return self


class Function(Part):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Literal[False] | None = None


class Tool(Part):
    type: Literal["function"]
    function: Function


class TextFormat(Part):
    type: Literal["text"]


class StreamOptions(Part):
    include_usage: Literal[True]


class Generation(Part):
    """What both kinds of request have in common."""

    model: Name | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of the answer. `Serve.max_new_tokens` is the most that may be asked for."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(min_length=1, max_length=4, fail_fast=True)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: Literal[1] | None = None

    @field_validator("temperature")
    @classmethod
    def _can_be_computed(cls, value: float | None) -> float | None:
        if value and value < LEAST_TEMPERATURE:
            raise ValueError(f"should be 0, or at least {LEAST_TEMPERATURE}")
        return value

    def engine_fields(self) -> dict[str, Any]:
        """Return the fields that an engine gets, as JSON. Greedy, as evaluated, unless it asks otherwise."""
        left_out = {"model", "user", "n", "stream_options"}
        greedy = {"temperature": 0} if self.temperature is None and self.top_p is None else {}
        return greedy | self.model_dump(mode="json", exclude_none=True, exclude=left_out)


class Chat(Generation):
    """A request to chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)]
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128, fail_fast=True)] | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """Another name of max_tokens."""
    chat_template_kwargs: TemplateKwargs | None = None
    """Values for the chat template's variables; only those that the version was evaluated with."""
    tool_choice: Literal["auto"] | None = None
    response_format: TextFormat | None = None
    logprobs: Literal[False] | None = None

    @field_validator("chat_template_kwargs", mode="before")
    @classmethod
    def _is_small(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields")
        return value

    @model_validator(mode="after")
    def _one_limit(self) -> "Chat":
        if self.max_completion_tokens is not None:
            self.max_tokens, self.max_completion_tokens = self.max_completion_tokens, None
        return self

    def images(self) -> list[tuple[str, ImageUrl]]:
        """Return the images in their order, each with its place in the request."""
        return [
            (f"messages[{turn}].content[{place}].image_url", part.image_url)
            for turn, message in enumerate(self.messages)
            if isinstance(message.content, list)
            for place, part in enumerate(message.content)
            if isinstance(part, Image)
        ]

    def engine_fields(self) -> dict[str, Any]:
        unused = ("tool_choice", "response_format", "logprobs")  # which ask for what an engine does without them
        return {name: value for name, value in super().engine_fields().items() if name not in unused}


class Completion(Generation):
    """A request to completions: a prompt that no template is applied to."""

    prompt: str = Field(min_length=1)


def check_template_kwargs(asked: Chat, name: str, evaluated: list[TemplateKwargs]) -> None:
    """Raise RequestError where a request's own values for the chat template are not those of the evaluation.

    name: of the version. evaluated: `Upstream.template_kwargs`.
    """
    requested = asked.chat_template_kwargs or {}
    variables = {variable for kwargs in evaluated for variable in kwargs}
    if unknown := sorted(set(requested) - variables):
        raise RequestError(f"chat_template_kwargs: {name} was evaluated without {', '.join(unknown)}")
    rendered = {**(evaluated[0] if evaluated else {}), **requested}
    texts = sorted({json.dumps(kwargs, sort_keys=True) for kwargs in evaluated})
    if requested and json.dumps(rendered, sort_keys=True) not in texts:
        raise RequestError(
            f"chat_template_kwargs: {name} would be asked with {json.dumps(rendered)}, and was evaluated with "
            f"{' and '.join(texts)} alone"
        )


def for_template(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return an engine's messages as its chat template reads them: the arguments of calls are objects, not text, and
    an image is {type: image, url}.
    """
    return [{**message, **_image_parts(message), **_parsed_calls(message)} for message in messages]


def _image_parts(message: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(message.get("content"), list):
        return {}
    content = [
        {"type": "image", "url": part["image_url"]["url"]} if part["type"] == "image_url" else part
        for part in message["content"]
    ]
    return {"content": content}


def _parsed_calls(message: dict[str, Any]) -> dict[str, Any]:
    if "tool_calls" not in message:
        return {}
    calls = [
        {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {"tool_calls": calls}


Kind = TypeVar("Kind", bound=Generation)


def read(kind: type[Kind], body: bytes) -> Kind:
    """Return the request in a body. Raises RequestError, which names the fields that are wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problems = [
            f"{_place(problem['loc'])}{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise RequestError("; ".join(problems[:MAX_PROBLEMS]) + more) from None


def _place(location: tuple[int | str, ...]) -> str:
    """Return a place in a request as its author would write it, such as "messages[0].content: "."""
    text, before = "", ("", "")
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in FORMS and before[0] != "as parts":  # after which the position and the type of a part come
            text += f".{part[:MAX_NAME]}"
        before = before[1], str(part)
    return f"{text.removeprefix('.')}: " if text else ""
