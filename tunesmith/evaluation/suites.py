"""What models are evaluated on: the section `evaluate` of params.yaml."""

import re
from typing import Annotated, Any, Literal, TypeAlias

import re2
from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from tunesmith.core.params import Section
from tunesmith.verifiers import catalog
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

    kind: Literal["answers"]
    dataset: str
    verifier: catalog.Name
    answer_format: Annotated[str, AfterValidator(_compiles)] | None
    """A completion that matches this as a whole, white space around it aside, is in the trained format."""
    max_new_tokens: PositiveInt
    limit: PositiveInt | None
    """Rows, from the first; null takes all."""


class Preferences(Section):
    """How often the chosen answer of a pair is likelier than the rejected one, over a data set's test split."""

    kind: Literal["preferences"]
    dataset: str
    limit: PositiveInt | None


class Perplexity(Section):
    """How likely the answers of a data set's test split are, by the token."""

    kind: Literal["perplexity"]
    dataset: str
    limit: PositiveInt | None


class Task(Section):
    """A task of lm-evaluation-harness."""

    kind: Literal["lm_eval"]
    task: str
    """Its name there, whose data comes from the hub, or the path of a YAML file."""
    metric: str
    """The one of its metrics, of every sample, that is the score, 0 to 1: acc, exact_match."""
    filter: str | None
    """The one of its ways to read an answer, such as strict-match; null takes the first."""
    examples: NonNegativeInt
    """Solved ones before each question."""
    chat: bool
    """Whether questions are put through the chat template, by lm-eval."""
    limit: PositiveInt | None


Suite: TypeAlias = Annotated[Answers | Preferences | Perplexity | Task, Field(discriminator="kind")]


class Evaluate(Section):
    suites: Annotated[dict[Annotated[str, AfterValidator(_is_name)], Suite], Field(min_length=1)]
    """The first is the one that models are ranked by."""
    batch_size: PositiveInt
    noise_batch_size: PositiveInt | None
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
