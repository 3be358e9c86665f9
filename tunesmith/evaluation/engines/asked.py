"""A model that answers the prompts of suites: by transformers in this process, or by vLLM over HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation.engines import with_images
from tunesmith.evaluation.grading import Completion
from tunesmith.evaluation.harness import answers, tasks
from tunesmith.evaluation.harness.on_vllm import VllmLM
from tunesmith.evaluation.harness.scores import Loaded
from tunesmith.models import chat
from tunesmith.models.attention.shared_prompts import single_head_product
from tunesmith.models.engines.client import IN_FLIGHT, Client
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens, likelihoods


class AskedModel(Protocol):
    """A model with its tokenizer. Prompts are rendered by `models.chat`, whichever engine answers.

    at_once, as an argument: the maximum number of prompts that are answered at once; None for the property's.
    """

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @property
    def at_once(self) -> int:
        """The default number of prompts that are answered at once."""

    @property
    def context(self) -> int:
        """Maximum tokens of a prompt and its answer together."""

    def with_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> Self:
        """The same model, with prompts rendered by another tokenizer's chat template."""

    def complete(self, rows: list[Row], max_new_tokens: int, at_once: int | None) -> list[Completion]:
        """Greedy completions of ``rows``, in their order. Raises EvaluationError where a prompt leaves no room."""

    def log_probs(self, examples: Sequence[tuple[Tokens, Tokens]], at_once: int | None) -> list[float]:
        """The log-probability, in nats, of every completion given its prompt, both as token ids."""

    def ask_task(self, task: Loaded, at_once: int | None) -> list[Sample]:
        """The samples of a task of lm-eval, as `harness.tasks.ask` returns them."""


@dataclass(frozen=True)
class InProcess:
    """A model that transformers runs in this process.

    A base's own repetition penalties do not apply, as in trainings and in serving.
    """

    opened: OpenModel
    at_once: int

    def __post_init__(self) -> None:
        settings = self.opened.model.generation_config
        settings.repetition_penalty, settings.no_repeat_ngram_size = 1.0, 0

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.opened.tokenizer

    @property
    def context(self) -> int:
        return int(self.opened.model.config.get_text_config().max_position_embeddings)

    def with_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> Self:
        return replace(self, opened=replace(self.opened, tokenizer=tokenizer))

    def complete(self, rows: list[Row], max_new_tokens: int, at_once: int | None) -> list[Completion]:
        size = at_once or self.at_once
        if with_images.has_images(rows):
            return with_images.generate(
                self.opened, rows, context=self.context, max_new_tokens=max_new_tokens, batch_size=size
            )
        return answers.generate(self.opened, rows, max_new_tokens=max_new_tokens, batch_size=size)

    def log_probs(self, examples: Sequence[tuple[Tokens, Tokens]], at_once: int | None) -> list[float]:
        scored = likelihoods(self.opened, examples, batch_size=at_once or self.at_once)
        return [likelihood.log_prob for likelihood in scored]

    def ask_task(self, task: Loaded, at_once: int | None) -> list[Sample]:
        with single_head_product(self.opened.model):
            return tasks.ask(task, tasks.UncutLM(self.opened, at_once or self.at_once))


@dataclass(frozen=True)
class Served:
    """A model that vLLM serves under ``name``, proved to be that model (`models.engines.identity`).

    stop_tokens: the tokens that end an answer.
    """

    client: Client
    name: str
    tokenizer: PreTrainedTokenizerBase
    context: int
    stop_tokens: tuple[int, ...]
    at_once: ClassVar[int] = IN_FLIGHT

    def with_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> Self:
        return replace(self, tokenizer=tokenizer)

    def complete(self, rows: list[Row], max_new_tokens: int, at_once: int | None) -> list[Completion]:
        rendered = [chat.render_prompt(self.tokenizer, row["prompt"], row.get("tools")) for row in rows]
        prompts = [chat.encode_prompt(self.tokenizer, row["prompt"], row.get("tools")) for row in rows]
        answers.check_room(rows, list(map(len, prompts)), self.context, max_new_tokens)
        generated = self.client.generate(
            self.name,
            prompts,
            max_new_tokens=max_new_tokens,
            stop_tokens=self.stop_tokens,
            in_flight=at_once or self.at_once,
        )
        return [
            Completion(
                self.tokenizer.decode(answer.tokens, skip_special_tokens=True),
                answers.sha256(text),
                len(answer.tokens),
                answer.stopped,
            )
            for text, answer in zip(rendered, generated, strict=True)
        ]

    def log_probs(self, examples: Sequence[tuple[Tokens, Tokens]], at_once: int | None) -> list[float]:
        whole = [prompt + completion for prompt, completion in examples]
        if max(map(len, whole), default=0) >= self.context:
            raise EvaluationError(
                f"a prompt and its answer have {max(map(len, whole))} tokens; vLLM scores up to {self.context - 1}",
                fix="raise engine.max_model_len in params.yaml, as far as model and GPU allow, or shorten that row",
            )
        scored = self.client.score(self.name, whole, in_flight=at_once or self.at_once)
        return [
            sum(token.log_prob for token in tokens[-len(completion) :])
            for tokens, (_, completion) in zip(scored, examples, strict=True)
        ]

    def ask_task(self, task: Loaded, at_once: int | None) -> list[Sample]:
        lm = VllmLM(self.client, self.name, self.tokenizer, self.context, at_once or self.at_once)
        return tasks.ask(task, lm)
