r"""Compare the chosen option with the right one.

The row's reference is a letter (B, (B), b) or the text of one of its ``choices``; without ``choices``, options are A
to Z. The chosen option of a completion is the first of these that it has:

1. the content of its last ``\boxed{...}``;
2. its last statement of the answer ("The answer is (B)", "Answer: **B**", "答案: B", "I choose B", "B is correct"), of
   those that name something;
3. the letter that is its first or last line, or begins it as an option does ("B) Paris"), if no line shows another;
4. the text of one choice, alone or after "the answer is".

Several options are not an answer ("A or B"; "(A)(B)(C)(D)"; "A is correct. B is correct." without a word in between),
nor is a letter with another text than its choice's ("(C) 84" where C is 48), nor one that is a word: "A dog" chooses
nothing unless it is the text of a choice. A letter must be upper case, unless it is the whole answer. Emphasis and
dollars count in neither the choices nor the completion.
"""

import re
from collections.abc import Iterator

from tunesmith.core.ready_rows import reference
from tunesmith.verifiers import exact, latex
from tunesmith.verifiers.verdict import Columns, Verdict

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WIDE = {0xFF01 + place: 0x21 + place for place in range(94)}
"""Full-width forms of printable ASCII."""
STYLED = re.compile(r"\\(?:text|math|emph|underline|mbox)[a-z]{0,9}\s{0,9}\{([^{}]{0,300})\}")
EMPHASIS = re.compile(r"[*`]|\\?\$|(?<!\w)__?|__?(?!\w)|\\(?:text|math)[a-z]{0,9}(?=\{)|\\[()\[\]]")
"""Emphasis around a letter, in Markdown or LaTeX."""
PART = "a-zA-Z0-9_\u00c0-\u024f\u0400-\u04ff'\u2019"
"""Characters of a word of an alphabet, in which no letter stands for an option; Chinese has no spaces around one."""
WORD = r"(?![AI]\s+(?!because\b|since\b|as\b|for\b|but\b|and\b|or\b|is\b|are\b)\w)"
"""Excludes a letter that is itself a word: A or I before another word."""
LETTER = rf"{WORD}[({{]?(?<![{PART}])[A-Z](?![{PART}+#°%]|-\w|\.\w)[)}}]?"
OR = r"\s{0,9}(?:,|/|;|&|\b(?:or|and)\b){1,2}\s{0,9}(?:\b(?:or|and|maybe|perhaps)\b\s{1,9}){0,2}"
LIST = rf"{LETTER}(?:{OR}{LETTER}){{0,25}}"
LINKS = (
    (r"\b(?:answer|choice|option)", "is|would be|should be|must be"),
    (r"\b(?:antwort|lösung|respuesta|réponse|risposta|resposta|ответ|jawaban|cevap)", "ist|es|est|è|é|adalah|—|-"),
    ("答案|正确选项|答え|正解|정답|đáp án|उत्तर|الإجابة", "应该是|应为|选择|是|为|選|选|は|은|는|là|है|هي"),
)
"""Words for an answer, and what links them to it, in English, other alphabets and other scripts."""
THE_ANSWER = "(?i:" + "|".join(rf"(?:{noun})\s{{0,9}}(?:{link}|:|=)\s{{0,9}}:?\s{{0,9}}" for noun, link in LINKS) + ")"
HEDGE = r"(?:(?i:the|clearly|definitely|therefore|thus|probably|most likely|likely|indeed|simply|actually)\s{1,9}){0,2}"
ENDS = r"(?=\s{0,9}[.,;!)]|\s{0,9}$|\s+(?:because|since|as)\b)"
STATED_LETTERS = re.compile(
    rf"(?:{THE_ANSWER}|\b(?i:choose|chose|pick|picked|select|selected|go with|going with)\s{{1,9}}|故选|选择|应选)"
    rf"{HEDGE}(?i:(?:option|choice|answer|letter)\s{{1,9}})?({LIST})"
    rf"|({LIST})\s{{1,9}}(?:is|are)\s{{1,9}}(?:the\s{{1,9}})?(?:only\s{{1,9}})?"
    rf"(?:correct|right|best|answer|one)\b"
    rf"|\b(?i:it is|it['\u2019]s|it must be|it has to be|so|thus|hence|therefore),?\s{{1,9}}{HEDGE}({LIST}){ENDS}",
    re.MULTILINE,
)
ADJACENT = re.compile(r"(?:\W|_|\b(?i:and|or|the|so|also|correct|right|best|answer)\b)*+")
LONGEST_LABEL = 40
"""Characters of a choice that are compared to tell that an option is listed with its text."""
NEGATED = re.compile(r"(?:\bnot|n['\u2019]t|\bnever|\bcannot|\bneither|\bnor)\s(?:\w+\s){0,3}$", re.IGNORECASE)
STATED_TEXT = re.compile(rf"{THE_ANSWER}{HEDGE}(.*\w.*)")
OPTION = re.compile(rf"(?<![{PART}])(?:\([A-Z]\)|[A-Z]\))")
"""A letter that is marked as an option."""
LABEL = re.compile(rf"(?<![{PART}])([A-Z])[.:)]\s{{0,9}}")
LINE = re.compile(
    rf"(?:(?i:option|choice|answer)\s{{1,9}})?({LIST})(?=\s*[.:,;)]|\s*$|\s+(?:because|since|[-\u2013\u2014])(?:\s|\b))"
)
MARKED_LINE = re.compile(r"(?:(?i:option|choice|answer)\s{1,9})?(\([A-Z]\)|[A-Z]\))(?=\s)")
"""A first letter in brackets, behind which a text may follow."""
ITS_TEXT = re.compile(r"[)}\].:]{0,3}\s{0,9}(?:[-\u2013\u2014:=]\s{0,9})?([^\n.;,]{1,200})")
"""What stands behind a letter, where its choice's text may."""
NEUTRAL = """
a an the is are was it this that i we my final answer option choice correct right best true one because since as for so
and but or from by in of obviously clearly definitely here again
"""
"""Words behind a letter that are not the text of a choice."""


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
    text = _plain(text)
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
        letter = _single_letter("".join(match[1] or match[2] or match[3] for match in letters[first:]))
        return None if letter and _contradicts(text[letters[-1].end() :], letter, choices) else letter
    return _letter_by_line(text, choices)


def is_marked(text: str) -> bool:
    """Whether ``text`` says which letter it chooses, and little else: B, (B), B) Paris, The answer is (B)."""
    plain = _plain(text)
    short = len(plain.splitlines()) == 1 and (LINE.match(plain) or MARKED_LINE.match(plain) or len(plain) == 1)
    marked = latex.BOX.search(text) or short or STATED_LETTERS.search(plain)
    return bool(marked) and chosen_letter(text, []) is not None


def _plain(text: str) -> str:
    """``text`` without emphasis, in ASCII where it is full-width."""
    text = text.translate(WIDE)
    if "\\" in text:
        text = STYLED.sub(r"\1", STYLED.sub(r"\1", text))
    return EMPHASIS.sub("", text).strip()


def _letter_of_whole(text: str, choices: list[object]) -> str | None:
    """The letter of the option that is all of ``text``; "" where none is, None where two are."""
    letter, letter_by_text = text.strip("(){}.:! ").upper(), _letter_by_text(text, choices)
    if len(letter) == 1 and letter in LETTERS:
        if choices and letter not in LETTERS[: len(choices)]:
            return letter_by_text or letter
        return letter if letter_by_text in (None, letter) else None
    return letter_by_text or ""


def _letter_by_line(text: str, choices: list[object]) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    matches = [LINE.match(line) or MARKED_LINE.match(line) for line in lines]
    if not lines or not (matches[0] or matches[-1]):
        return None
    letter = _single_letter("".join(match[1] for match in matches if match))
    line, match = (lines[0], matches[0]) if matches[0] else (lines[-1], matches[-1])
    rest = line[match.end() :].lstrip(".:,;) ") if match else ""
    if letter is None or any(option != letter for option in _listed(rest, choices)):
        return None
    behind = line[match.end() :] if match else ""
    return None if _contradicts(behind, letter, choices) else letter


def _listed(text: str, choices: list[object]) -> Iterator[str]:
    """The letters that ``text`` marks as options: (B), B), or B. before its own text."""
    text = re.split(r"\b(?:because|since|as)\b", text, maxsplit=1)[0]
    yield from (option[0].strip("()") for option in OPTION.finditer(text))
    starts = [str(choice).casefold()[:LONGEST_LABEL] for choice in choices]
    for label in LABEL.finditer(text):
        place = LETTERS.index(label[1])
        if place < len(starts) and text[label.end() :][:LONGEST_LABEL].casefold().startswith(starts[place]):
            yield label[1]


def _contradicts(behind: str, letter: str, choices: list[object]) -> bool:
    """Whether the text behind a letter is another choice's, or as short as its own and without any of its words."""
    place, match = LETTERS.index(letter), ITS_TEXT.match(behind)
    if place >= len(choices) or match is None:
        return False
    if _letter_by_text(behind.lstrip(".:,;) "), choices) not in (None, letter):
        return True
    said, own = (set(re.findall(r"\w+", exact.normalise(text))) for text in (match[1], _plain(str(choices[place]))))
    told = said - set(NEUTRAL.split())
    return bool(told) and not told & own and len(said) <= len(own) + 1


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
    texts = [exact.normalise(_plain(str(choice))) for choice in choices]
    return LETTERS[texts.index(answer)] if answer and texts.count(answer) == 1 else None
