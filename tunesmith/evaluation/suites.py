"""The suites that models are evaluated on: the section `evaluate` of params.yaml."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import re2
from pydantic import AfterValidator, Discriminator, Field, NonNegativeInt, PositiveInt, Tag, model_validator

from tunesmith.core.params import Section, TemplateKwargs
from tunesmith.verifiers.names import RefusalBy, VerifierName
from tunesmith.verifiers.regex import compile_pattern, error_text


def compiled_format(pattern: str) -> Any:
    """The regular expression of an answer's format; its dot matches line feeds. RE2 takes linear time on any text."""
    return compile_pattern(f"(?s:{pattern})")


def _compiles(pattern: str) -> str:
    try:
        compiled_format(pattern)
    except re2.error as error:
        raise ValueError(f"not a regular expression of RE2's ({error_text(error)})") from None
    return pattern


def _is_name(name: str) -> str:
    """A suite's name, which is part of the names of its metrics, in files and at the tracker."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in ("training", "evaluation"):
        raise ValueError(f"{name!r} cannot name a suite; use letters, digits, - and _, not training or evaluation")
    return name


class Rendered(Section):
    """A suite whose prompts are rendered by the chat template."""

    chat_template_kwargs: TemplateKwargs = Field(default_factory=dict)
    """Variables of the chat template, such as {enable_thinking: true}, in place of base_model.chat_template_kwargs."""


class Answers(Rendered):
    """Prompts of a data set's test split, answered greedily and graded by a verifier."""

    kind: Literal["answers"] = "answers"
    dataset: str
    verifier: VerifierName
    refusal_by: RefusalBy = "rules"
    """Who classifies the answers of a suite with the verifier refusal: rules, which leave one in four ungraded, or the
    judge of params.yaml, which is first measured on labelled answers."""
    answer_format: Annotated[str, AfterValidator(_compiles)] | None = None
    """Regular expression of the trained format; it must match a whole completion, but for white space around it."""
    max_new_tokens: PositiveInt = 256
    limit: PositiveInt | None = None
    """Number of rows, from the first; null takes all."""

    @model_validator(mode="after")
    def _only_refusals_are_judged(self) -> "Answers":
        if self.refusal_by == "judge" and self.verifier != "refusal":
            raise ValueError(f"refusal_by: judge has no effect on the verifier {self.verifier}: it is for refusal")
        return self


class Preferences(Rendered):
    """The share of a test split's pairs whose chosen answer is likelier than the rejected one."""

    kind: Literal["preferences"] = "preferences"
    dataset: str
    limit: PositiveInt | None = None


class Perplexity(Rendered):
    """The likelihood of a test split's answers, per token."""

    kind: Literal["perplexity"] = "perplexity"
    dataset: str
    limit: PositiveInt | None = None


class LmEvalTask(Rendered):
    """A task, or a group of tasks, of lm-evaluation-harness."""

    kind: Literal["lm_eval"] = "lm_eval"
    task: str
    """Name of one of lm-eval's tasks, groups or tags, whose data comes from the hub, or the path of a YAML file."""
    include_path: Path | None = None
    """Folder of YAML files, in data/tasks, whose tasks and groups can be named too; they go before lm-eval's own."""
    metric: str | None = None
    """The task's metric that is the score, such as acc or exact_match; null takes the first of the task or group."""
    filter: str | None = None
    """The task's filter that reads an answer, such as strict-match; null takes the first."""
    examples: NonNegativeInt | None = None
    """Number of solved examples before each question (few-shot); null takes the task's own."""
    chat: bool | None = None
    """Whether lm-eval applies the chat template to questions; null applies it where the task generates answers."""
    limit: PositiveInt | None = None
    """Number of prompts of each task, from the first; null takes all."""

    @property
    def is_file(self) -> bool:
        return self.task.endswith((".yaml", ".yml"))

    @model_validator(mode="after")
    def _only_chat_is_rendered(self) -> "LmEvalTask":
        if self.chat_template_kwargs and not self.chat:
            raise ValueError("chat_template_kwargs has no effect on questions without a chat template: set chat: true")
        return self


def _kind(suite: object) -> str:
    """The kind that a suite names; else lm_eval if it has a task, and answers if not."""
    if not isinstance(suite, dict):
        return str(getattr(suite, "kind", "answers"))
    return str(suite.get("kind") or ("lm_eval" if "task" in suite else "answers"))


Suite: TypeAlias = Annotated[
    Annotated[Answers, Tag("answers")]
    | Annotated[Preferences, Tag("preferences")]
    | Annotated[Perplexity, Tag("perplexity")]
    | Annotated[LmEvalTask, Tag("lm_eval")],
    Discriminator(_kind),
]


class Evaluate(Section):
    suites: dict[Annotated[str, AfterValidator(_is_name)], Suite] = Field(default_factory=dict)
    """The suites by name; models are ranked by the first."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """The engine that answers, for all models alike. auto: vLLM where a GPU is present, vLLM is installed, and it can
    serve every model; else transformers."""
    batch_size: PositiveInt = 32
    """Number of prompts answered at once by transformers; vLLM chooses its own."""
    noise_batch_size: PositiveInt | None = 8
    """Batch size of the second of two further evaluations of the base, whose differences are noise; null for none."""

    @model_validator(mode="after")
    def _one_has_answers(self) -> "Evaluate":
        if self.suites and not any(isinstance(suite, Answers) for suite in self.suites.values()):
            raise ValueError(
                "one suite must be of kind answers ({dataset, verifier}): from its prompts come the probes by which a "
                "server proves that it runs the evaluated model, so without it no model can be registered"
            )
        return self
