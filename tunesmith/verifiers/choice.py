r"""Compare the chosen option with the right one.

The row's reference is a letter (B, (B), b) or the text of one of its ``choices``; without ``choices``, options are A
to Z. The chosen option of a completion is the first of these that it has:

1. the content of its last ``\boxed{...}``;
2. its last statement of the answer ("The answer is (B)", "Answer: **B**", "I choose B", "B is correct");
3. the letter that is its first or last line, or begins it as an option does ("B) Paris"), if no line shows another;
4. the text of one choice, alone or after "the answer is".

Several options are not an answer ("A or B"; "(A)(B)(C)(D)"; "A is correct. B is correct." without a word in between),
nor is a letter that is a word: "A dog"
chooses nothing unless it is the text of a choice. A letter must be upper case, unless it is the whole answer.
"""

import re
from collections.abc import Iterator

from tunesmith.core.ready_rows import reference
from tunesmith.verifiers import exact, latex
from tunesmith.verifiers.verdict import Columns, Verdict

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
EMPHASIS = re.compile(r"[*`$]|(?<!\w)__?|__?(?!\w)|\\(?:text|math)[a-z]{0,9}(?=\{)|\\[()\[\]]")
"""Emphasis around a letter, in Markdown or LaTeX."""
WORD = r"(?![AI]\s+(?!because\b|since\b|as\b|for\b|but\b|and\b|or\b|is\b|are\b)\w)"
"""Excludes a letter that is itself a word: A or I before another word."""
LETTER = rf"{WORD}[({{]?(?<![\w'\u2019])[A-Z](?![\w'\u2019+#°%]|-\w|\.\w)[)}}]?"
OR = r"\s{0,9}(?:,|/|;|&|\b(?:or|and)\b){1,2}\s{0,9}(?:\b(?:or|and|maybe|perhaps)\b\s{1,9}){0,2}"
LIST = rf"{LETTER}(?:{OR}{LETTER}){{0,25}}"
THE_ANSWER = r"\b(?i:answer|choice|option)\s{0,9}(?i:is|would be|should be|must be|:|=)\s{0,9}:?\s{0,9}"
STATED_LETTERS = re.compile(
    rf"(?:{THE_ANSWER}|\b(?i:choose|chose|pick|picked|select|selected|go with|going with)\s{{1,9}})"
    rf"(?i:(?:option|choice|answer|letter)\s{{1,9}})?({LIST})"
    rf"|({LIST})\s{{1,9}}(?:is|are)\s{{1,9}}(?:the\s{{1,9}})?(?:only\s{{1,9}})?(?:correct|right|best)\b"
)
ADJACENT = re.compile(r"(?:\W|_|\b(?i:and|or|the|so|also|correct|right|best)\b)*+")
LONGEST_LABEL = 40
"""Characters of a choice that are compared to tell that an option is listed with its text."""
NEGATED = re.compile(r"(?:\bnot|n['\u2019]t|\bnever|\bcannot|\bneither|\bnor)\s(?:\w+\s){0,3}$", re.IGNORECASE)
STATED_TEXT = re.compile(rf"{THE_ANSWER}(.+)")
OPTION = re.compile(r"(?<![\w'\u2019])(?:\([A-Z]\)|[A-Z]\))")
"""A letter that is marked as an option."""
LABEL = re.compile(r"(?<![\w'\u2019])([A-Z])[.:)]\s{0,9}")
LINE = re.compile(rf"(?:(?i:option|choice|answer)\s{{1,9}})?({LIST})(?=\s*[.:,;)]|\s*$|\s+(?:because|since)\b)")


def verify(completion: str, row: Columns) -> Verdict:
    """Compare the option that ``completion`` chooses with that of the row's reference."""
    choices = row.get("choices") or []
    if not isinstance(choices, list) or len(choices) > len(LETTERS):
        return Verdict(0.0, None, f"the row's choices must be a list of at most {len(LETTERS)} texts", "not_gradable")
    expected = chosen_letter(reference(row), choices)
    if expected is None or (choices and expected not in LETTERS[: len(choices)]):
        return Verdict(0.0, None, f"the reference is not one of the choices: {reference(row)[-80:]!r}", "not_gradable")
    letter = chosen_letter(completion, choices)
    if letter is None:
        return Verdict(0.0, None, "the completion does not choose a single option", "no_answer")
    right = letter == expected
    return Verdict(float(right), letter, f"{letter} is {'' if right else 'not '}{expected}")


def chosen_letter(text: str, choices: list[object]) -> str | None:
    """The letter of the option that ``text`` chooses; None for none or several."""
    boxes = latex.boxes(text)
    if boxes:
        first = len(boxes) - 1
        while first and _are_adjacent(text, boxes[first - 1][1], boxes[first][0]):
            first -= 1
        contents = dict.fromkeys(content for *_, content in boxes[first:])
        text = " or ".join(contents)
    text = EMPHASIS.sub("", text).strip()
    letter = _letter_of_whole(text, choices)
    if letter != "":
        return letter
    letters = [
        match
        for match in STATED_LETTERS.finditer(text)
        if not NEGATED.search(text[max(0, match.start() - 60) : match.start()])
    ]
    texts = list(STATED_TEXT.finditer(text))
    if texts and (not letters or texts[-1].start() > letters[-1].start()):
        return _letter_of_whole(texts[-1][1], choices) or None
    if letters:
        first = len(letters) - 1
        while first and _are_adjacent(text, letters[first - 1].end(), letters[first].start()):
            first -= 1
        return _single_letter("".join(match[1] or match[2] for match in letters[first:]))
    return _letter_by_line(text, choices)


def _letter_of_whole(text: str, choices: list[object]) -> str | None:
    """The letter of the option that is all of ``text``; "" where none is, None where two are."""
    letter, letter_by_text = text.strip("(){}.:! ").upper(), _letter_by_text(text, choices)
    if len(letter) == 1 and letter in LETTERS:
        return letter if letter_by_text in (None, letter) else None
    return letter_by_text or ""


def _letter_by_line(text: str, choices: list[object]) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    matches = [LINE.match(line) for line in lines]
    if not lines or not (matches[0] or matches[-1]):
        return None
    letter = _single_letter("".join(match[1] for match in matches if match))
    line, match = (lines[0], matches[0]) if matches[0] else (lines[-1], matches[-1])
    rest = line[match.end() :].lstrip(".:,;) ") if match else ""
    if letter is None or any(option != letter for option in _listed(rest, choices)):
        return None
    return letter if _letter_by_text(rest, choices) in (None, letter) else None


def _listed(text: str, choices: list[object]) -> Iterator[str]:
    """The letters that ``text`` marks as options: (B), B), or B. before its own text."""
    text = re.split(r"\b(?:because|since|as)\b", text, maxsplit=1)[0]
    yield from (option[0].strip("()") for option in OPTION.finditer(text))
    starts = [str(choice).casefold()[:LONGEST_LABEL] for choice in choices]
    for label in LABEL.finditer(text):
        place = LETTERS.index(label[1])
        if place < len(starts) and text[label.end() :][:LONGEST_LABEL].casefold().startswith(starts[place]):
            yield label[1]


def _are_adjacent(text: str, end: int, start: int) -> bool:
    """Whether no word stands between two statements, which could take the first of them back."""
    return start - end < 40 and ADJACENT.fullmatch(text, end, start) is not None


def _single_letter(text: str) -> str | None:
    """The letter that every letter in ``text`` is."""
    letters = set(re.findall("[A-Z]", text))
    return letters.pop() if len(letters) == 1 else None


def _letter_by_text(text: str, choices: list[object]) -> str | None:
    """The letter of the one choice whose text ``text`` is."""
    answer = exact.normalise(text)
    texts = [exact.normalise(str(choice)) for choice in choices]
    return LETTERS[texts.index(answer)] if answer and texts.count(answer) == 1 else None
