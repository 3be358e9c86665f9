"""Tell whether the last number of a text without marks is what the text comes to, or something else that it names.

Every function here takes linear time: what is searched is bounded before it is searched.
"""

import re

NEAR = 60
"""Characters before and behind a number that are looked at."""
FAR = 500
"""Characters before and behind a number in which its sentence ends."""
EMPHASIS = re.compile(r"\*\*|__|<<[^<>]{0,200}>>")
"""Markdown's emphasis, and the calculations that GSM8K writes into its sentences."""
STATED = re.compile(
    r"\b(?:answer|solution|result)\b"
    r"(?:\s{1,9}(?:is|was|will be|would be|equals|comes to)\b\s{0,9}:?|\s{0,9}[:=])([^\n]*)",
    re.IGNORECASE,
)
"""A statement of the answer, to the end of its line."""
STATED_END = re.compile(r"[.!?]\s|,?\s(?:because|since|as|which|where)\s")
"""The end of a statement, before what explains it."""
SENTENCE = re.compile(r"[.!?](?=\s)|\n")


def _any(*patterns: str, behind: str = "") -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(patterns)}){behind}", re.IGNORECASE)


FIND = (
    "find|found|determine|solve|answer|say|tell|calculate|compute|know|evaluate|conclude|decide|derive|infer|work out"
)
UNKNOWN = _any(
    r"\bnot enough\b|\binsufficient\b|\bnot sure\b|\bno (?:solution|answer|idea|information)\b|\bdon['\u2019]?t know\b",
    rf"\b(?:can ?not|can['\u2019]t|could ?n['\u2019]t|could not|(?:un|not )?able to|no way to) (?:be )?(?:{FIND})",
    rf"\b(?:(?:not |im)possible to|hard to|how to) (?:{FIND})|\bdo(?:es)? not (?:say|tell|know|follow)\b",
    r"\b(?:is|are|remains?) (?:unknown|undefined|undetermined|unclear|indeterminate|missing)\b",
    r"\b(?:is|are) not (?:given|known|defined|clear|specified|stated)\b|\bneed to know\b",
    r"\bneed (?:\w+ ){0,2}more (?:equation|information|data|detail|context|fact)s?\b",
    r"\blet(?: me| us|['\u2019]s) (?:now |first )?(?:find|try|solve|compute)\b",
)
"""A sentence that says that the answer is not known, or is still to be found."""
LABELS = "|".join(
    (
        r"steps?|equations?|eqs?\.?|figures?|fig\.|tables?|problem|question|exercise|examples?|cases?|lines?|section|chapter",
        r"pages?|part|theorem|lemma|corollary|notes?|version|method|attempt|rule|option|item|no\.|iteration|approach|type",
        "row|column|formula|property|axiom|definition|year|january|february|march|april|may|june|july|august|september",
        "october|november|december|sin|cos|tan|log|ln|sqrt|exp|choose|mod|modulo",
    )
)
OTHER_BEFORE = _any(
    r"\b(?:more|less|fewer|greater|larger|smaller|bigger|higher|lower|other|rather|later|earlier) than",
    r"\bnot|n['\u2019]t(?: be)?|\b(?:between|above|below|under|over|exceeds?|beyond|except|versus|vs\.?)",
    rf"\b(?:{LABELS})",
    r"[<>\u2264\u2265\u2260\u2248~]|\\(?:leq?|geq?|neq?|approx|lt|gt)",
    r"[^=<>\s]\s*[+*\u00d7\u00f7^/]|[\w)\]}]\s*[-\u2212\u2013]",
    behind=r"\s*[(\[{$*_]{0,3}\s*$",
)
"""A bound, a label, a function or an operator before a number."""
NAME_BEFORE = re.compile(r"[a-zA-Z_]\w{0,9}['\u2019]?\s?[({\[_^]\s*[-\u2212]?$|[a-zA-Z]-$")
"""A name whose argument, index or part the number is."""
OTHER_BEHIND = _any(
    r"\s*(?:[+*\u00d7\u00f7^<>\u2264\u2265\u2260/]|[-\u2212])\s*[\w(\\$]|[)\]}]+\s*[-+*\u00d7/^=]",
    r"\s+(?:or|and) (?:more|less|fewer|above|below|over|up)\b",
)
"""What stands behind a number that is part of an expression, or a bound."""
JOINER = re.compile(
    r"[a-zA-Z%$\u20ac\u00a3\s]{0,20}\b(?:and|or|to|through)\s+(?:\w{1,6}\s+)?[$\u20ac\u00a3(]*"
    r"|\s*[,;\u2013/]\s*(?:and\s|or\s)?\s*[$\u20ac\u00a3(]*",
    re.IGNORECASE,
)
"""What joins two numbers to a range, a list or a choice."""


def is_outcome(text: str, start: int, end: int, previous: int | None) -> bool:
    """Whether the number from ``start`` to ``end``, the last of ``text``, is what the text comes to.

    previous: the end of the number before it.
    """
    before, behind = text[max(0, start - NEAR) : start], text[end : end + NEAR]
    if OTHER_BEFORE.search(before) or NAME_BEFORE.search(before) or OTHER_BEHIND.match(behind):
        return False
    if previous is not None and start - previous <= NEAR and JOINER.fullmatch(text, previous, start):
        return False
    opening = max(
        (end.end() for end in SENTENCE.finditer(text, max(0, start - FAR), start)), default=max(0, start - FAR)
    )
    closing = SENTENCE.search(text, end, end + FAR)
    sentence = text[opening : closing.end() if closing else end + FAR]
    return not (UNKNOWN.search(sentence) or sentence.rstrip().endswith("?"))


def stated(text: str) -> str | None:
    """The last statement of an answer in ``text`` that has a number; None where none has."""
    found = [match[1] for match in STATED.finditer(text) if re.search(r"\d", match[1])]
    if not found:
        return None
    end = STATED_END.search(found[-1])
    return found[-1][: end.start()] if end else found[-1]
