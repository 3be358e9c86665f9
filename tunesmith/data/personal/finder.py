"""Find e-mail addresses, telephone numbers, payment cards, IBANs and secrets in texts.

What a candidate looks like is a cheap search over all texts at once; whether it is one is for those to say who know:
Google's libphonenumber (telephone numbers of the named regions), python-stdnum (check digits of cards, structure and
check digits of IBANs), the HTML standard's form of a valid e-mail address, and the rules of gitleaks for secrets.
"""

import bisect
import functools
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import phonenumbers
import re2
from stdnum import iban, luhn

from tunesmith.core.errors import ParamsError

EMAIL, PHONE, CARD, IBAN = "an e-mail address", "a telephone number", "a payment card number", "an IBAN"
PLACEHOLDERS = {EMAIL: "<EMAIL_ADDRESS>", PHONE: "<PHONE_NUMBER>", CARD: "<CREDIT_CARD>", IBAN: "<IBAN_CODE>"}
"""The text in place of a finding, by its kind, as Presidio names them; <SECRET> stands for any other kind."""
EMAIL_FORM = re2.compile(
    r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*\.[a-zA-Z][a-zA-Z0-9-]{0,61}[a-zA-Z0-9]"
)
"""A valid e-mail address of the HTML standard (4.10.5.1.5) whose domain ends in a name of two characters or more."""
CARD_FORM = re2.compile(r"\b(?:4\d{3}|5[0-5]\d{2}|6\d{3}|1\d{3}|3\d{3})[- ]?\d{3,4}[- ]?\d{3,4}[- ]?\d{3,5}\b")
"""Numbers as Presidio 2.2's CreditCardRecognizer has them; those of 13 digits that begin with 1 are times."""
IBAN_FORM = re2.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?\b")
"""Presidio 2.2's IbanRecognizer."""
FEWEST = 7
"""Fewest digits of a telephone number."""
PHONE_FORM = re2.compile(r"[+(]?\d(?:[ ./()\-\x{a0}\x{2010}-\x{2015}]{0,3}\d){6,16}")
"""Runs of digits among which a telephone number may be."""
DATE_FORM = re2.compile(r"(?:19|20)\d\d[-./](?:0?[1-9]|1[0-2])[-./](?:0?[1-9]|[12]\d|3[01])(?: [0-2]?\d)?")
"""Dates as ISO 8601 has them, perhaps with the hour, which are common and would be searched in vain."""
OF_PEOPLE = {
    phonenumbers.PhoneNumberType.FIXED_LINE,
    phonenumbers.PhoneNumberType.MOBILE,
    phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE,
    phonenumbers.PhoneNumberType.PERSONAL_NUMBER,
    phonenumbers.PhoneNumberType.VOIP,
}
"""Types of telephone numbers that may be someone's own."""
CONTEXT = 8
"""Characters around a run of digits by which libphonenumber tells a telephone number from a price or a date."""
SHORT = ("ey", "q~", "s.", "sk")
"""Keywords that are in most texts: the rules themselves are searched for instead."""
RULES = Path(__file__).with_name("secret_rules.json")


class Finding(NamedTuple):
    """A stretch of a text."""

    start: int
    end: int
    kind: str


class Rule(NamedTuple):
    """A rule of gitleaks."""

    name: str
    regex: Any
    group: int
    """The group that is the secret, where it has one."""
    entropy: float
    """Bits a character that the secret must exceed."""
    allowed: tuple[Any, ...]
    """Regular expressions of secrets that are none."""


class Finder:
    """Finds personal data. ``regions``: those whose national telephone numbers are found, such as US."""

    def __init__(self, regions: Sequence[str]) -> None:
        """Raises ParamsError for a region that libphonenumber does not know."""
        if unknown := [region for region in regions if region not in phonenumbers.SUPPORTED_REGIONS]:
            raise ParamsError(
                f"data.<dataset>.phone_regions: no region {unknown[0]!r}",
                fix="name regions by two capital letters of ISO 3166-1, such as US, GB or DE",
            )
        self._regions = tuple(regions)

    def find(self, texts: Sequence[str]) -> dict[int, list[Finding]]:
        """Map the position of each text with findings to these, in their order, none within another."""
        found: dict[int, list[Finding]] = {}
        for position, keywords in _suspects(texts).items():
            findings = _apart(self._findings(texts[position], keywords))
            if findings:
                found[position] = findings
        return found

    def _findings(self, text: str, keywords: set[str]) -> Iterator[Finding]:
        """Yield all findings, the surest first."""
        of_rules = frozenset(keywords - {"@", ""})
        for rule in _of_keywords(of_rules) if of_rules else ():
            yield from _secrets(text, rule)
        if "@" in keywords:
            for match in EMAIL_FORM.finditer(text):
                yield Finding(match.start() + len(match[0]) - len(match[0].lstrip("'`*.=/")), match.end(), EMAIL)
        if "" in keywords:
            yield from _ibans(text)
            yield from _cards(text)
            yield from self._phones(text)

    def _phones(self, text: str) -> Iterator[Finding]:
        for match in PHONE_FORM.finditer(text):
            begin = max(0, match.start() - CONTEXT)
            window = text[begin : match.end() + CONTEXT]
            for start, end in _numbers(match[0], window, match.end() - begin, self._regions):
                yield Finding(begin + start, begin + end, PHONE)


@functools.lru_cache(maxsize=2**14)
def _numbers(candidate: str, window: str, after: int, regions: tuple[str, ...]) -> list[tuple[int, int]]:
    """The places of the telephone numbers in a window of text around a candidate, as the first region has them.

    after: where the candidate ends in the window. Of a telephone number written without its country, digits are grouped
    as in the region, and it is one of people: "4000/2000" and "1800-1350" are numbers of services, but sums far more
    often, as is all that an equals sign follows.
    """
    if DATE_FORM.fullmatch(candidate) or window[after:].lstrip().startswith("="):
        return []
    digits = sum(map(str.isdigit, candidate))
    for region in (None,) if candidate.startswith("+") else regions:
        if region is not None and digits < _shortest(region):
            continue
        found = [
            (number.start, number.end)
            for number in phonenumbers.PhoneNumberMatcher(window, region, phonenumbers.Leniency.STRICT_GROUPING)
            if number.raw_string.startswith("+")
            or (
                sum(map(str.isdigit, number.raw_string)) >= FEWEST
                and phonenumbers.number_type(number.number) in OF_PEOPLE
            )
        ]
        if found:
            return found
    return []


@functools.cache
def _shortest(region: str) -> int:
    """The fewest digits of a region's telephone numbers of people."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    if metadata is None:
        return FEWEST
    kinds = [metadata.fixed_line, metadata.mobile, metadata.voip, metadata.personal_number]
    return min(length for kind in kinds if kind is not None for length in kind.possible_length if length > 0)


def mask(text: str, findings: Iterable[Finding]) -> str:
    """Put a placeholder in place of each finding."""
    parts, end = [], 0
    for finding in findings:
        parts += [text[end : finding.start], PLACEHOLDERS.get(finding.kind, "<SECRET>")]
        end = finding.end
    return "".join([*parts, text[end:]])


def _suspects(texts: Sequence[str]) -> dict[int, set[str]]:
    """Map each text that may hold something to what it has: @, "" for digits, and keywords of rules."""
    encoded = [text.encode(errors="replace") for text in texts]
    suspects: dict[int, set[str]] = {}
    starts = list(itertools.accumulate((len(part) + 1 for part in encoded), initial=0))
    for match in _search().finditer(b"\n".join(encoded)):
        found = match[0]
        mark = "" if found[-1:].isdigit() and found[:1].isdigit() else found.decode().lower()
        suspects.setdefault(bisect.bisect_right(starts, match.start()) - 1, set()).add(mark)
    return suspects


@functools.cache
def _search() -> Any:
    """Compile the search for suspects, once in each process."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes as they are
    options.max_mem = 2**26
    keywords = sorted({*_rules()} - {*SHORT}, key=lambda keyword: (-len(keyword), keyword))
    whole = {rule.name: rule.regex.pattern for keyword in SHORT for rule in _rules().get(keyword, ())}
    digits = r"\d(?:[^\w\n]{0,3}\d){5}|\d\d[ -]?[A-Z0-9]{4}[ -]?[A-Z0-9]{2}\d"
    parts = ["@", digits, f"(?i:{'|'.join(map(re2.escape, keywords))})", *(f"(?:{regex})" for regex in whole.values())]
    return re2.compile("|".join(parts).encode(), options)


@functools.cache
def _rules() -> dict[str, list[Rule]]:
    """The rules by keyword: a text without any of a rule's keywords is not searched by it."""
    rules: dict[str, list[Rule]] = {}
    for entry in json.loads(RULES.read_text())["rules"]:
        allowed = [regex for one in entry.get("allowlists", ()) for regex in one.get("regexes", ())]
        rule = Rule(
            f"a secret ({entry['id']})",
            re2.compile(entry["regex"]),
            entry.get("secretGroup", 1),
            entry.get("entropy", 0.0),
            tuple(map(re2.compile, allowed)),
        )
        for keyword in entry["keywords"]:
            rules.setdefault(keyword.lower(), []).append(rule)
    return rules


@functools.lru_cache(maxsize=2**12)
def _of_keywords(keywords: frozenset[str]) -> list[Rule]:
    """The rules that texts with these keywords are searched by; a keyword may hold another, shorter one."""
    by_keyword = _rules()
    names = {name for name in by_keyword for keyword in keywords if name in keyword}
    return list({rule.name: rule for name in sorted(names) for rule in by_keyword[name]}.values())


def _secrets(text: str, rule: Rule) -> Iterator[Finding]:
    for match in rule.regex.finditer(text):
        group = rule.group if rule.regex.groups >= rule.group and match[rule.group] else 0
        secret = match[group]
        if _entropy(secret) > rule.entropy and not any(regex.search(secret) for regex in rule.allowed):
            yield Finding(match.start(group), match.end(group), rule.name)


def _entropy(text: str) -> float:
    """The Shannon entropy of a text's characters, in bits a character."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def _ibans(text: str) -> Iterator[Finding]:
    for match in IBAN_FORM.finditer(text):
        number = match[0]
        while number and not iban.is_valid(number):  # the next words may look like its end
            number = number[: max(number.rfind(" "), number.rfind("-"), 0)]
        if number:
            yield Finding(match.start(), match.start() + len(number), IBAN)


def _cards(text: str) -> Iterator[Finding]:
    for match in CARD_FORM.finditer(text):
        digits = match[0].replace(" ", "").replace("-", "")
        if luhn.is_valid(digits) and not (len(digits) == 13 and digits[0] == "1"):
            yield Finding(match.start(), match.end(), CARD)


def _apart(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings that do not overlap, in order of their places; of two that do, the first given."""
    kept: list[Finding] = []
    for finding in findings:
        if all(finding.end <= other.start or other.end <= finding.start for other in kept):
            kept.append(finding)
    return sorted(kept)
