"""Is the completion as long as the row asks?

The row holds any of ``min_words``, ``max_words``, ``min_characters`` and ``max_characters``, each included. Words are
what white space separates; characters are Unicode code points, without the white space around the completion. The
score is 1 within every bound and 0 outside: a share would pay for an answer that is too long. A blank completion is
no answer, else it would be right wherever there is only a maximum.
"""

from typing import Any

from tunesmith.verifiers.verdict import Row, Verdict

BOUNDS = ("min_words", "max_words", "min_characters", "max_characters")


def verify(completion: str, row: Row) -> Verdict:
    """Measure ``completion`` against the bounds of the row."""
    bounds = {name: row[name] for name in BOUNDS if row.get(name) is not None}
    problem = _problem(bounds)
    if problem:
        return Verdict(0.0, None, problem, "not_gradable")
    measured = {"words": len(completion.split()), "characters": len(completion.strip())}
    if not measured["words"]:
        return Verdict(0.0, None, "the completion is blank", "no_answer")
    answer = f"{measured['words']} words, {measured['characters']} characters"
    for name, bound in bounds.items():
        side, _, unit = name.partition("_")
        if measured[unit] < bound if side == "min" else measured[unit] > bound:
            return Verdict(0.0, answer, f"{measured[unit]} {unit}, {'fewer' if side == 'min' else 'more'} than {bound}")
    return Verdict(1.0, answer, f"{answer}: within bounds")


def _problem(bounds: dict[str, Any]) -> str | None:
    """Why no completion can be measured against ``bounds``."""
    if not bounds:
        return f"the row has none of {', '.join(BOUNDS)}"
    for name, bound in bounds.items():
        if not isinstance(bound, int) or isinstance(bound, bool) or bound < 0:
            return f"{name} is no number of {name.partition('_')[2]}: {bound!r}"
    for unit in ("words", "characters"):
        least, most = bounds.get(f"min_{unit}", 0), bounds.get(f"max_{unit}")
        if most is not None and (least > most or most == 0):
            return f"no completion has {least} to {most} {unit}"
    return None
