"""The space of a sweep: the values that each param may take, as `--over` states them.

>>> parse_all(["lora.rank=8,16", "learning_rate=1e-4:1e-2:log"])[1]
Range(param='learning_rate', low=0.0001, high=0.01, logarithmic=True)
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from tunesmith.core.errors import ParamsError

HOW = "write NAME=A,B,C for a choice, or NAME=LOW:HIGH or NAME=LOW:HIGH:log for a range"
DIGITS = 3
"""Significant digits of a value from a range of fractions."""


@dataclass(frozen=True)
class Choices:
    """A param that takes one of some values, as YAML reads them."""

    param: str
    values: tuple[object, ...]

    @property
    def examples(self) -> list[object]:
        """Values that must be valid for all to be."""
        return [*self.values]

    @property
    def size(self) -> float:
        """The number of values."""
        return len(self.values)


@dataclass(frozen=True)
class Range:
    """A param that takes any value between two numbers, ends included; only whole ones where both ends are whole."""

    param: str
    low: float
    high: float
    logarithmic: bool = False
    """Whether values are uniform in their logarithm."""

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are taken."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def examples(self) -> list[object]:
        """Values that must be valid for all to be: the ends, and one that is not whole where others are not."""
        return [self.low, self.high] if self.whole else [self.low, self.high, self.low + (self.high - self.low) / 3.7]

    @property
    def size(self) -> float:
        """The number of values; infinite where fractions are taken."""
        return self.high - self.low + 1 if self.whole else math.inf

    def rounded(self, value: float) -> float:
        """A value rounded to DIGITS significant digits, within the range."""
        return value if self.whole else min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Dimension = Choices | Range
"""The values that one param may take."""


def parse_all(texts: Sequence[str]) -> list[Dimension]:
    """The space that the arguments of `--over` state. Raises ParamsError for the first that states none."""
    if not texts:
        raise ParamsError("--over: missing; a sweep needs a param to vary", fix=HOW)
    space = [parse(text) for text in texts]
    for param, count in Counter(dimension.param for dimension in space).items():
        if count > 1:
            raise ParamsError(f"--over: {param}: stated {count} times", fix="state all its values once")
    return space


def parse(text: str) -> Dimension:
    """One param with its values. Raises ParamsError where the text states none."""
    param, separator, values = (part.strip() for part in text.partition("="))
    if not (separator and param and values):
        raise _refused(text, "no param with its values")
    if ":" in values and not any(mark in values for mark in "{}[],'\""):
        return _range(text, param, values.split(":"))
    try:
        choices = [_value(item) for item in yaml.safe_load(f"[{values}]")]
    except yaml.YAMLError:
        raise _refused(text, "its values are not YAML") from None
    if len({repr(value) for value in choices}) < len(choices):
        raise _refused(text, "a value is stated twice")
    if len(choices) < 2:
        raise _refused(text, "a single value is no choice")
    return Choices(param, tuple(choices))


def _range(text: str, param: str, parts: list[str]) -> Range:
    ends = [_value(yaml.safe_load(part)) if part.strip() else None for part in parts[:2]]
    low, high = (end if isinstance(end, int | float) and not isinstance(end, bool) else math.nan for end in ends)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _refused(text, "an end of the range is not a number")
    if len(parts) > 3 or (len(parts) == 3 and parts[2].strip() != "log"):
        raise _refused(text, f"a range has two ends and may have 'log', not {':'.join(parts[2:])!r}")
    if low >= high:
        raise _refused(text, f"{low:g} is not below {high:g}")
    logarithmic = len(parts) == 3
    if logarithmic and low <= 0:
        raise _refused(text, "a logarithmic range begins above 0")
    return Range(param, low, high, logarithmic)


def _value(value: object) -> object:
    """A value as YAML 1.2 reads it: PyYAML reads 1e-4 as a string."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _refused(text: str, reason: str) -> ParamsError:
    return ParamsError(f"--over {text!r}: {reason}", fix=HOW)


def size(space: Sequence[Dimension]) -> float:
    """The number of different trials; infinite where a param takes fractions."""
    return math.prod(dimension.size for dimension in space)


def described(dimension: Dimension) -> str:
    """The values of a param, in words."""
    if isinstance(dimension, Choices):
        return ", ".join(str(shown(value)) for value in dimension.values)
    return f"{dimension.low:g} to {dimension.high:g}{', logarithmic' if dimension.logarithmic else ''}"


def shown(value: object) -> str:
    """A value as params.yaml would show it."""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
