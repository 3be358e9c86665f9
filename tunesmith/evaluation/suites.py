"""What models are evaluated on: the section `evaluate` of params.yaml."""

import re
from typing import Annotated, Any, Literal, TypeAlias

import re2
from pydantic import AfterValidator, Discriminator, Field, NonNegativeInt, PositiveInt, Tag, model_validator

from tunesmith.core.params import Section
from tunesmith.verifiers.names import VerifierName
from tunesmith.verifiers.regex import compile_pattern, told


def compiled_format(pattern: str) -> Any:
    """An answer's format, whose dot matches line feeds too. RE2: linear in time, whatever a model writes."""
    return compile_pattern(f"(?s:{pattern})")


def _compiles(pattern: str) -> str:
    try:
        compiled_format(pattern)
    except re2.error as error:
        raise ValueError(f"not a regular expression of RE2's ({told(error)})") from None
    return pattern


def _is_name(name: str) -> str:
    """Metrics go by it, in files and at the tracker."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in ("training", "evaluation"):
        raise ValueError(f"{name!r} cannot name a suite; use letters, digits, - and _, not training or evaluation")
    return name


class Answers(Section):
    """Prompts of a data set's test split, answered greedily and graded by a verifier."""

    kind: Literal["answers"] = "answers"
    dataset: str
    verifier: VerifierName
    answer_format: Annotated[str, AfterValidator(_compiles)] | None = None
    """A completion that matches this as a whole, white space around it aside, is in the trained format."""
    max_new_tokens: PositiveInt = 256
    limit: PositiveInt | None = None
    """Rows, from the first; null takes all."""


class Preferences(Section):
    """How often the chosen answer of a pair is likelier than the rejected one, over a data set's test split."""

    kind: Literal["preferences"] = "preferences"
    dataset: str
    limit: PositiveInt | None = None


class Perplexity(Section):
    """How likely the answers of a data set's test split are, by the token."""

    kind: Literal["perplexity"] = "perplexity"
    dataset: str
    limit: PositiveInt | None = None


class Task(Section):
    """A task of lm-evaluation-harness."""

    kind: Literal["lm_eval"] = "lm_eval"
    task: str
    """Its name there, whose data comes from the hub, or the path of a YAML file."""
    metric: str = "acc"
    """The one of its metrics, of every sample, that is the score, 0 to 1: acc, exact_match."""
    filter: str | None = None
    """The one of its ways to read an answer, such as strict-match; null takes the first."""
    examples: NonNegativeInt = 0
    """Solved ones before each question."""
    chat: bool = False
    """Whether questions are put through the chat template, by lm-eval."""
    limit: PositiveInt | None = None


def _kind(suite: object) -> str:
    """The kind that a suite names, or that its keys tell."""
    if not isinstance(suite, dict):
        return str(getattr(suite, "kind", "answers"))
    return str(suite.get("kind") or ("lm_eval" if "task" in suite else "answers"))


Suite: TypeAlias = Annotated[
    Annotated[Answers, Tag("answers")]
    | Annotated[Preferences, Tag("preferences")]
    | Annotated[Perplexity, Tag("perplexity")]
    | Annotated[Task, Tag("lm_eval")],
    Discriminator(_kind),
]


class Evaluate(Section):
    suites: Annotated[dict[Annotated[str, AfterValidator(_is_name)], Suite], Field(min_length=1)]
    """The first is the one that models are ranked by."""
    batch_size: PositiveInt = 32
    noise_batch_size: PositiveInt | None = 8
    """The base answers twice more, the second time in batches of this size: what differs is noise. Null: never."""

    @model_validator(mode="after")
    def _first_has_answers(self) -> "Evaluate":
        name, first = next(iter(self.suites.items()))
        if not isinstance(first, Answers):
            raise ValueError(f"the first suite, by which models are ranked, must be of kind answers; {name!r} is not")
        return self

    @property
    def first(self) -> Answers:
        """The suite that models are ranked by."""
        suite = next(iter(self.suites.values()))
        assert isinstance(suite, Answers)
        return suite
