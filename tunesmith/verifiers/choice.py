r"""Is the chosen option the right one?

The row's reference is a letter (B, (B), b) or the text of one of its ``choices``; without ``choices``, options are A
to Z. The chosen option of a completion is the first of these that there is:

1. what its last ``\boxed{...}`` holds;
2. what it last says the answer is ("The answer is (B)", "Answer: **B**", "I choose B", "B is correct");
3. the letter that is its first or last line, or begins it as an option does ("B) Paris"), if no line shows another;
4. the text of one choice, alone or after "the answer is".

Several options are no answer ("A or B"; "A, B, C and D are possible"), and so is a letter that is a word: "A dog"
chooses nothing unless a choice says so. Letters are upper case, but for one that is the whole answer.
"""

import re

from tunesmith.core.ready_rows import reference
from tunesmith.verifiers import exact, latex
from tunesmith.verifiers.verdict import Columns, Verdict

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DRESS = re.compile(r"[*`$]|(?<!\w)__?|__?(?!\w)|\\(?:text|math)[a-z]{0,9}(?=\{)|\\[()\[\]]")
"""Emphasis around a letter, in Markdown or LaTeX."""
WORD = r"(?![AI]\s+(?!because\b|since\b|as\b|for\b|but\b|and\b|or\b|is\b|are\b)\w)"
"""A and I before another word are words."""
LETTER = rf"{WORD}[({{]?(?<![\w'\u2019])[A-Z](?![\w'\u2019+#°%]|-\w|\.\w)[)}}]?"
OR = r"\s{0,9}(?:,|/|;|&|\b(?:or|and)\b){1,2}\s{0,9}(?:\b(?:or|and|maybe|perhaps)\b\s{1,9}){0,2}"
LIST = rf"{LETTER}(?:{OR}{LETTER}){{0,25}}"
THE_ANSWER = r"\b(?i:answer|choice|option)\s{0,9}(?i:is|would be|should be|must be|:|=)\s{0,9}:?\s{0,9}"
STATED = re.compile(
    rf"(?:{THE_ANSWER}|\b(?i:choose|chose|pick|picked|select|selected|go with|going with)\s{{1,9}})"
    rf"(?i:(?:option|choice|answer|letter)\s{{1,9}})?({LIST})"
    rf"|({LIST})\s{{1,9}}(?:is|are)\s{{1,9}}(?:the\s{{1,9}})?(?:only\s{{1,9}})?(?:correct|right|best)\b"
)
NEGATED = re.compile(r"(?:\bnot|n['\u2019]t|\bnever|\bcannot|\bneither|\bnor)\s(?:\w+\s){0,3}$", re.IGNORECASE)
SAID = re.compile(rf"{THE_ANSWER}(.+)")
LINE = re.compile(rf"(?:(?i:option|choice|answer)\s{{1,9}})?({LIST})(?=\s*[.:,;)]|\s*$|\s+(?:because|since)\b)")


def verify(completion: str, row: Columns) -> Verdict:
    """Compare the option that ``completion`` chooses with that of the row's reference."""
    choices = row.get("choices") or []
    if not isinstance(choices, list) or len(choices) > len(LETTERS):
        return Verdict(0.0, None, f"the row's choices are no list of at most {len(LETTERS)} texts", "not_gradable")
    expected = chosen(reference(row), choices)
    if expected is None or (choices and expected not in LETTERS[: len(choices)]):
        return Verdict(0.0, None, f"the reference is none of the choices: {reference(row)[-80:]!r}", "not_gradable")
    found = chosen(completion, choices)
    if found is None:
        return Verdict(0.0, None, "the completion chooses no single option", "no_answer")
    right = found == expected
    return Verdict(float(right), found, f"{found} is {'' if right else 'not '}{expected}")


def chosen(text: str, choices: list[object]) -> str | None:
    """The letter of the option that ``text`` chooses; None for none or several."""
    boxes = latex.boxes(text)
    if boxes:
        text = boxes[-1][2]
    text = DRESS.sub("", text).strip()
    alone = _alone(text, choices)
    if alone != "":
        return alone
    stated = [match for match in STATED.finditer(text) if not NEGATED.search(text[: match.start()][-60:])]
    said = list(SAID.finditer(text))
    if said and (not stated or said[-1].start() > stated[-1].start()):
        return _alone(said[-1][1], choices) or None
    if stated:
        return _only(stated[-1][1] or stated[-1][2])
    return _by_line(text, choices)


def _alone(text: str, choices: list[object]) -> str | None:
    """The letter of the option that is all of ``text``; "" where none is, None where two are."""
    letter, by_text = text.strip("(){}.:! ").upper(), _by_text(text, choices)
    if len(letter) == 1 and letter in LETTERS:
        return letter if by_text in (None, letter) else None
    return by_text or ""


def _by_line(text: str, choices: list[object]) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    shown = [LINE.match(line) for line in lines]
    if not lines or not (shown[0] or shown[-1]):
        return None
    letter = _only("".join(match[1] for match in shown if match))
    line, match = (lines[0], shown[0]) if shown[0] else (lines[-1], shown[-1])
    beside = _by_text(line[match.end() :].lstrip(".:,;) "), choices) if match else None
    return letter if beside in (None, letter) else None


def _only(letters: str) -> str | None:
    """The letter in ``letters``, if they are all the same."""
    different = set(re.findall("[A-Z]", letters))
    return different.pop() if len(different) == 1 else None


def _by_text(text: str, choices: list[object]) -> str | None:
    """The letter of the one choice that ``text`` is."""
    said = exact.normalised(text)
    same = [letter for letter, choice in zip(LETTERS, choices, strict=False) if exact.normalised(str(choice)) == said]
    return same[0] if said and len(same) == 1 else None
