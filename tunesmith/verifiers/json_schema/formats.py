"""The formats of JSON Schema (2020-12, section 7.3) that are checked; a text is of every other one.

jsonschema checks most of them by packages that are not installed with it. Every function here takes linear time.
"""

import ipaddress
import re
import uuid
from collections.abc import Callable
from datetime import date

LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
HOST = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*")
LOCAL = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*", re.ASCII)
TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(?:\.\d+)?(?:[zZ]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII)
DURATION = re.compile(r"P(?!$)(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)", re.ASCII)
URI_PART = r"(?:[\w.~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2})*"
URI = re.compile(
    rf"[a-zA-Z][a-zA-Z0-9+.-]*:(?://(?:[\w.~!$&'()*+,;=:@%-]|\[[0-9a-fA-F:.]+\])*(?=[/?#]|\Z))?{URI_PART}(?:#{URI_PART})?",
    re.ASCII,
)
REFERENCE = re.compile(rf"{URI_PART}(?:#{URI_PART})?", re.ASCII)
POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
RELATIVE_POINTER = re.compile(r"(?:0|[1-9]\d*)(?:#|(?:/(?:[^~/]|~[01])*)*)", re.ASCII)


def holds(name: str, text: str) -> bool:
    """Whether ``text`` is of the format ``name``, or the format is not known."""
    return name not in FORMATS or FORMATS[name](text)


def _date(text: str) -> bool:
    return re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII) is not None and _parses(date.fromisoformat, text)


def _time(text: str) -> bool:
    """An RFC 3339 time; a leap second is one only at the end of a day in UTC."""
    match = TIME.fullmatch(text)
    if match is None or match[3] != "60":
        return match is not None
    offset = (int(match[5] or 0) * 60 + int(match[6] or 0)) * (-1 if match[4] == "-" else 1)
    return (int(match[1]) * 60 + int(match[2]) - offset) % 1440 == 1439


def _date_time(text: str) -> bool:
    day, mark, rest = text[:10], text[10:11], text[11:]
    return mark in ("T", "t") and _date(day) and _time(rest)


def _email(text: str) -> bool:
    local, _, domain = text.rpartition("@")
    quoted = len(local) > 2 and local[0] == local[-1] == '"' and '"' not in local[1:-1]
    if not (LOCAL.fullmatch(local) or quoted):
        return False
    if domain.startswith("[") and domain.endswith("]"):
        inner = domain[1:-1]
        return _ipv6(inner[5:]) if inner.lower().startswith("ipv6:") else _ipv4(inner)
    return HOST.fullmatch(domain) is not None


def _ipv4(text: str) -> bool:
    return text.isascii() and _parses(ipaddress.IPv4Address, text)


def _ipv6(text: str) -> bool:
    return "%" not in text and text.isascii() and _parses(ipaddress.IPv6Address, text)


def _uuid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is not None and _parses(
        uuid.UUID, text
    )


def _regex(text: str) -> bool:
    return len(text) <= 1000 and _parses(re.compile, text) and "\\Z" not in text and "\\a" not in text


def _parses(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except (ValueError, re.error, RecursionError, OverflowError):
        return False
    return True


def _full(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _date,
    "date-time": _date_time,
    "duration": _full(DURATION),
    "email": _email,
    "hostname": _full(HOST),
    "ip-address": _ipv4,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "json-pointer": _full(POINTER),
    "regex": _regex,
    "relative-json-pointer": _full(RELATIVE_POINTER),
    "time": _time,
    "uri": _full(URI),
    "uri-reference": _full(REFERENCE),
    "uuid": _uuid,
}
"""The check of each format that is known, by its name."""
