"""The units that tell two answers apart: 12 km is not 12 cm. Any other word behind a number is not compared."""

import re

NAMES: dict[str, str] = {
    "mm": "millimeter millimetre",
    "cm": "centimeter centimetre",
    "m": "meter metre",
    "km": "kilometer kilometre",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard",
    "mi": "mile",
    "mg": "milligram",
    "g": "gram gramme",
    "kg": "kilogram kilogramme",
    "t": "ton tonne",
    "lb": "lbs pound",
    "oz": "ounce",
    "ml": "milliliter millilitre",
    "l": "liter litre",
    "ms": "millisecond",
    "s": "sec secs second",
    "min": "mins minute",
    "h": "hr hrs hour",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years yr yrs",
    "mph": "miles per hour",
    "km/h": "kmh kph kilometers per hour",
    "m/s": "meters per second",
    "$": "usd dollar",
    "cent": "cents ¢",
    "€": "eur euro",
    "£": "gbp",
    "%": "percent",
    "°": "degree \\circ",
    "rad": "radian",
}
"""Units with their other names; an s at the end of a name is ignored."""
CANONICAL = {unit: unit for unit in NAMES} | {
    name: unit for unit, names in NAMES.items() if " per " not in names for name in names.split()
}
CANONICAL |= {names: unit for unit, names in NAMES.items() if " per " in names}
DECORATION = re.compile(r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf|operatorname)|[{}\s,.~]|\\[,;:! ]")
POWER = re.compile(r"\^?([23])$")
WORDY = re.compile(r"^(square|cubic)|(squared|cubed)$")


def canonical(written: str) -> str:
    """The unit as it is compared, with its power, as in cm^2; "" for words that are no known unit."""
    words = DECORATION.sub(lambda mark: " " if mark[0].isspace() or mark[0] == "~" else "", written.strip()).strip()
    name, power = POWER.sub("", words), POWER.search(words)
    worded = WORDY.search(name)
    name = WORDY.sub("", name).strip().lstrip("\\^").strip()
    exponent = (
        power[1] if power else {"s": "2", "c": "3"}[worded[0][0]] if worded and worded[0][:2] in ("sq", "cu") else ""
    )
    lower = name if name in CANONICAL else name.casefold()
    unit = CANONICAL.get(lower) or CANONICAL.get(lower.removesuffix("s")) or ""
    return f"{unit}^{exponent}" if unit and exponent else unit
