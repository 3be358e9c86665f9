"""A running engine: a server of full weights in a process of its own, and of the adapters that are loaded on them."""

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tunesmith.core.errors import EngineError
from tunesmith.core.params import TemplateKwargs
from tunesmith.core.ready_rows import Message, Tool
from tunesmith.models.engines.client import Client
from tunesmith.models.engines.commands import Adapters
from tunesmith.models.engines.process import ServerProcess
from tunesmith.serving.engine_commands import EngineKind
from tunesmith.serving.gateway.proxy import Reader

PARENT_DEATH_SIGNAL: dict[EngineKind, signal.Signals] = {"transformers": signal.SIGKILL, "vllm": signal.SIGTERM}
"""The signal that an engine gets when its parent is gone; vLLM must be able to end its own child processes."""
FIX = (
    "fix the error in those lines; where memory is short, end what else runs on the GPU, such as another `tunesmith "
    "serve`, or set serve.gpu_memory_share and serve.max_model_len in params.yaml; `serve.engine: transformers` there "
    "serves everywhere"
)


@dataclass(frozen=True)
class Loads:
    """The weights that an engine was started with, and the adapters that can be loaded on them."""

    digest: str
    """The digest of the full weights' manifest."""
    weights: Path
    """The folder that the full weights were linked from."""
    dtype: str
    renders: frozenset[tuple[str, str]]
    """The names and digests of the files that prompts are rendered and tokenized by."""
    adapters: Adapters | None
    """The adapters that can be loaded; None for full weights alone."""


@dataclass
class Loaded:
    """A version that an engine answers as. deployments: the number of its deployments."""

    resources: ExitStack
    deployments: int = 0


@dataclass(eq=False)
class Engine:
    """A running server, which ends with ``resources``.

    name: the version that it was started with, for errors.
    """

    kind: EngineKind
    name: str
    process: ServerProcess
    client: Client
    loads: Loads
    reader: Reader
    """Counts the tokens of prompts as this engine does."""
    on_gpu: bool
    """Whether it takes `Serve.gpu_memory_share` of a GPU."""
    resources: ExitStack
    versions: dict[str, Loaded] = field(default_factory=dict)
    """The versions that it answers as, by their names."""
    failed: bool = False
    """Whether it ended or was killed."""

    @property
    def is_shared(self) -> bool:
        """Whether it answers as several versions."""
        return len(self.versions) > 1

    @property
    def deployments(self) -> int:
        """The number of deployments of all versions."""
        return sum(loaded.deployments for loaded in self.versions.values())

    def check_process(self) -> None:
        """Raise EngineError if the process has ended."""
        try:
            self.process.check_process()
        except EngineError:
            self.failed = True
            raise

    def has_ended(self) -> bool:
        """Return whether the process has ended, or does so within a second, as after its connections broke."""
        if not self.failed:
            with suppress(subprocess.TimeoutExpired):
                self.process.process.wait(1)
                self.failed = True
        return self.failed

    def kill(self) -> None:
        """End a process that hangs."""
        self.failed = True
        self.process.kill()

    @contextmanager
    def answering(self, name: str, load: Callable[[ExitStack], None]) -> Iterator[None]:
        """Answer as a version while the block runs. The first block calls ``load``; the last closes what it entered."""
        if name not in self.versions:
            with ExitStack() as resources:
                load(resources)
                self.versions[name] = Loaded(resources.pop_all())
        loaded = self.versions[name]
        loaded.deployments += 1
        try:
            yield
        finally:
            loaded.deployments -= 1
            if not loaded.deployments:
                del self.versions[name]
                loaded.resources.close()

    @contextmanager
    def adapter(self, name: str, folder: Path) -> Iterator[None]:
        """Load an adapter under ``name``, and unload it when the block ends. Raises EngineError."""
        try:
            self.client.load_adapter(name, folder)
            yield
        finally:  # also of a load that failed by its timeout, and may have ended since
            with suppress(EngineError):  # the engine is gone, or will drop it for another
                self.client.unload_adapter(name)

    def answer(
        self,
        name: str,
        prompt: list[Message],
        max_new_tokens: int,
        timeout: float,
        template_kwargs: TemplateKwargs | None = None,
        tools: list[Tool] | None = None,
        images: Mapping[str, str] = {},
    ) -> str:
        """Return the greedy answer to a conversation, its reasoning included. Raises EngineError without an answer.

        name: the version to ask. template_kwargs: values for variables of the chat template, where not its own.
        images: those of the prompt, as data URLs, by their digests.
        """
        if tools and self.kind == "vllm":  # which takes calls out of an answer, and refuses tools without a parser
            tokens = self.reader.encode(prompt, tools, template_kwargs)
            [generated] = self.client.generate(name, [tokens], max_new_tokens=max_new_tokens, stop_tokens=[])
            return self.reader.decode(generated.tokens)
        messages = [_as_sent(message, images) for message in prompt]
        request: dict[str, object] = {"model": name, "messages": messages, "max_tokens": max_new_tokens}
        request["temperature"] = 0
        if tools:
            request["tools"] = tools
        if template_kwargs:
            request["chat_template_kwargs"] = template_kwargs
        try:
            reply = self.process.http.post("/v1/chat/completions", json=request, timeout=timeout)
            answered = reply.raise_for_status().json()
            if answered["model"] != name:
                raise ValueError(f"it answered as {answered['model']}")
            message = answered["choices"][0]["message"]
            reasoning = message.get("reasoning") or message.get("reasoning_content") or ""  # vLLM, transformers
            return f"{reasoning} {message.get('content') or ''}".strip()
        except (httpx2.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            self.check_process()
            raise EngineError(
                f"{name}: {self.kind} gave no answer to a probe ({error!r}); its last lines:\n{self.process.tail()}",
                fix="fix the error in those lines, or raise serve.start_seconds in params.yaml; a prompt that is too "
                "long for vLLM needs a larger serve.max_model_len",
            ) from None

    def stop(self) -> None:
        """Stop the process and remove its files."""
        self.failed = True
        self.resources.close()


def _as_sent(message: Message, images: Mapping[str, str]) -> dict[str, object]:
    """A turn as a request has it: reasoning in the field that engines pass on, and no mark of training."""
    sent = {name: value for name, value in message.items() if name not in ("reasoning", "train")}
    if not isinstance(message["content"], str):
        sent["content"] = [
            {"type": "image_url", "image_url": {"url": images[part["image"]]}} if part["type"] == "image" else part
            for part in message["content"]
        ]
    return sent | ({"reasoning_content": message["reasoning"]} if "reasoning" in message else {})
