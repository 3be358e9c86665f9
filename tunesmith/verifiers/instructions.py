"""Check that the completion follows its prompt's instructions, by IFEval's rules (Zhou et al. 2023, arXiv:2311.07911).

The rules are our own, tested against lm-eval's: those download nltk's data when imported, draw a letter at random where
a prompt does not name one, read keywords as regular expressions, and take quadratic time on hostile text.

A row has ``instructions``, ids such as ``punctuation:no_comma``, and ``settings``, an object for each (null for none; a
null setting counts as absent). The strict reading takes the completion as it stands. The loose one also
takes it without its first line, its last line or both, and all of these without asterisks; one of them must do.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from tunesmith.verifiers.ifeval import language
from tunesmith.verifiers.ifeval.rules import RULES
from tunesmith.verifiers.verdict import Columns, Verdict


@dataclass(frozen=True)
class InstructionResult:
    """Whether one instruction of a row is followed."""

    id: str
    """IFEval's id of the instruction."""
    strict: bool
    """Whether it is followed in the strict reading, and so in the loose one."""
    loose: bool
    """Whether it is followed in the loose reading."""


def prepare() -> None:
    """Import nltk and load the profiles of languages, which takes a second."""
    language.prepare()


def verify(completion: str, row: Columns) -> Verdict:
    """Score 1 where every instruction is followed strictly (IFEval's prompt-level strict accuracy), else 0.

    ``answer`` counts the instructions followed, as in "2 of 3"; ``reason`` names the others.
    """
    try:
        results = check(completion, row)
    except (ValueError, TimeoutError) as error:
        return Verdict(0.0, None, str(error), "not_gradable")
    if not completion.strip():
        return Verdict(0.0, None, "the completion is empty", "no_answer")
    failed = [
        f"{result.id} (loosely followed)" if result.loose else result.id for result in results if not result.strict
    ]
    answer = f"{len(results) - len(failed)} of {len(results)}"
    return Verdict(float(not failed), answer, f"not followed: {', '.join(failed)}" if failed else "all followed")


def check(completion: str, row: Columns) -> list[InstructionResult]:
    """Check every instruction of the row, in its order; an empty completion follows none.

    IFEval's four metrics are the means over prompts and over instructions, strict and loose. Raises ValueError that
    names an instruction without a rule, or settings that its rule cannot take, and TimeoutError where nltk takes too
    long.
    """
    variants = _variants(completion)
    return [_check_one(id_, settings, completion, variants) for id_, settings in _instructions(row)]


def _check_one(id_: str, settings: dict[str, object], completion: str, variants: list[str]) -> InstructionResult:
    rule = RULES[id_]
    try:
        strict = rule(completion, **settings) and bool(completion.strip())
        return InstructionResult(id_, strict, strict or any(rule(variant, **settings) for variant in variants))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, not {str(problem['input'])[:80]!r}"
            for problem in error.errors()
        )
        raise ValueError(f"settings of {id_}: {problems}") from None


def _variants(completion: str) -> list[str]:
    """The texts of the loose reading other than the completion itself, each once, without empty ones."""
    lines = completion.split("\n")
    cuts = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    bare = [text.replace("*", "") for text in (completion, *cuts)]
    return [text for text in dict.fromkeys([*cuts, *bare]) if text.strip() and text != completion]


def _instructions(row: Columns) -> list[tuple[str, dict[str, object]]]:
    """The id and the settings of each instruction of the row. Raises ValueError."""
    ids, settings = row["instructions"], row["settings"]
    if not isinstance(ids, list) or not ids:
        raise ValueError(f"instructions must be a list of ids, not {str(ids)[:80]!r}")
    settings = [None] * len(ids) if settings is None else settings
    if not isinstance(settings, list) or len(settings) != len(ids):
        raise ValueError(f"settings must be a list of {len(ids)} objects, one an instruction")
    instructions = []
    for id_, values in zip(ids, settings, strict=True):
        if not isinstance(id_, str) or id_ not in RULES:
            raise ValueError(f"no rule for the instruction {str(id_)[:80]!r}; use one of {', '.join(RULES)}")
        if not (values is None or (isinstance(values, dict) and all(isinstance(name, str) for name in values))):
            raise ValueError(f"settings of {id_}: must be an object, not {str(values)[:80]!r}")
        instructions.append((id_, {name: value for name, value in (values or {}).items() if value is not None}))
    return instructions
