"""Measure the length of the completion against the row's bounds.

The row holds any of ``min_words``, ``max_words``, ``min_characters`` and ``max_characters``, all inclusive. Words are
separated by white space; characters are visible Unicode code points, and one for the white space between two words:
no run of blanks, joiners or accents makes an answer longer. The score is 1 within every bound and 0 outside: a share
would pay for an answer that is too long. A blank completion is not an answer; otherwise it would be right wherever
there is only a maximum.
"""

from tunesmith.verifiers import visible
from tunesmith.verifiers.verdict import Columns, Verdict

BOUNDS = ("min_words", "max_words", "min_characters", "max_characters")


def verify(completion: str, row: Columns) -> Verdict:
    """Measure ``completion`` against the bounds of the row."""
    try:
        bounds = _bounds(row)
    except ValueError as error:
        return Verdict(0.0, None, str(error), "not_gradable")
    words = visible.words(completion)
    lengths = {"words": len(words), "characters": len(" ".join(words))}
    if not lengths["words"]:
        return Verdict(0.0, None, "the completion is blank", "no_answer")
    answer = f"{lengths['words']} words, {lengths['characters']} characters"
    for name, bound in bounds.items():
        side, _, unit = name.partition("_")
        if lengths[unit] < bound if side == "min" else lengths[unit] > bound:
            return Verdict(0.0, answer, f"{lengths[unit]} {unit}, {'fewer' if side == 'min' else 'more'} than {bound}")
    return Verdict(1.0, answer, f"{answer}: within bounds")


def _bounds(row: Columns) -> dict[str, int]:
    """The bounds of the row, by name. Raises ValueError where no completion can be measured against them."""
    bounds = {}
    for name in BOUNDS:
        bound = row.get(name)
        if bound is None:
            continue
        if not isinstance(bound, int) or isinstance(bound, bool) or bound < 0:
            raise ValueError(f"{name} must be a number of {name.partition('_')[2]}, not {bound!r}")
        bounds[name] = bound
    if not bounds:
        raise ValueError(f"the row has none of {', '.join(BOUNDS)}")
    for unit in ("words", "characters"):
        least, most = bounds.get(f"min_{unit}", 0), bounds.get(f"max_{unit}")
        if most is not None and (least > most or most == 0):
            raise ValueError(f"no completion has {least} to {most} {unit}")
    return bounds
