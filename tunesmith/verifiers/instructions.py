"""Does the completion follow its prompt's instructions? IFEval's rules (Zhou et al. 2023, arXiv:2311.07911).

The rules are our own, tested against lm-eval's: those download nltk's data when imported, draw a letter at random where
a prompt names none, take keywords for regular expressions, and take quadratic time on hostile text.

A row has ``instructions``, ids such as ``punctuation:no_comma``, and ``settings``, an object for each (null or absent:
none; a null setting counts as absent). Strict takes the completion as it stands; loose also takes it without its first
line, its last line, both, and each of these without asterisks, and is satisfied with the best.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from tunesmith.verifiers.ifeval.check import RULES
from tunesmith.verifiers.verdict import Columns, Verdict


@dataclass(frozen=True)
class Followed:
    """One instruction of a row; what is followed strictly is followed loosely. id: IFEval's."""

    id: str
    strict: bool
    loose: bool


def verify(completion: str, row: Columns) -> Verdict:
    """1 where every instruction is followed strictly (IFEval's prompt-level strict accuracy), else 0.

    ``answer`` counts, as in "2 of 3"; ``reason`` names what is not followed.
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


def check(completion: str, row: Columns) -> list[Followed]:
    """Whether each instruction of the row is followed, in its order; an empty completion follows none.

    IFEval's four numbers are the means over prompts and over instructions, strict and loose. Raises ValueError that
    names an instruction that has no rule, or settings that its rule cannot take, and TimeoutError where nltk
    gives a text up.
    """
    variants = _variants(completion)
    return [_followed(id_, settings, completion, variants) for id_, settings in _instructions(row)]


def _followed(id_: str, settings: dict[str, object], completion: str, variants: list[str]) -> Followed:
    rule = RULES[id_]
    try:
        strict = rule(completion, **settings) and bool(completion.strip())
        return Followed(id_, strict, strict or any(rule(variant, **settings) for variant in variants))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, not {str(problem['input'])[:80]!r}"
            for problem in error.errors()
        )
        raise ValueError(f"settings of {id_}: {problems}") from None


def _variants(completion: str) -> list[str]:
    """What the loose reading takes beside the completion itself, each once, none empty."""
    lines = completion.split("\n")
    cuts = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    bare = [text.replace("*", "") for text in (completion, *cuts)]
    return [text for text in dict.fromkeys([*cuts, *bare]) if text.strip() and text != completion]


def _instructions(row: Columns) -> list[tuple[str, dict[str, object]]]:
    ids, settings = row["instructions"], row["settings"]
    if not isinstance(ids, list) or not ids:
        raise ValueError(f"instructions must be a list of ids, not {str(ids)[:80]!r}")
    settings = [None] * len(ids) if settings is None else settings
    if not isinstance(settings, list) or len(settings) != len(ids):
        raise ValueError(f"settings must be a list of {len(ids)} objects, one an instruction")
    for id_, given in zip(ids, settings, strict=True):
        if not isinstance(id_, str) or id_ not in RULES:
            raise ValueError(f"no rule for the instruction {str(id_)[:80]!r}; there is {', '.join(RULES)}")
        if not (given is None or (isinstance(given, dict) and all(isinstance(name, str) for name in given))):
            raise ValueError(f"settings of {id_}: must be an object, not {str(given)[:80]!r}")
    return [
        (id_, {name: value for name, value in (given or {}).items() if value is not None})
        for id_, given in zip(ids, settings, strict=True)
    ]
