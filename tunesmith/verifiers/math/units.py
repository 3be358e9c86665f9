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
    "$": "usd dollar",
    "cent": "cents ¢",
    "€": "eur euro",
    "£": "gbp",
    "%": "percent",
    "°": "degree circ",
    "pair": "pairs",
    "gal": "gallon",
    "qt": "quart",
    "acre": "acres",
    "ha": "hectare",
    "nm": "nanometer nanometre",
    "bit": "bits",
    "byte": "bytes",
    "J": "joule",
    "kJ": "kilojoule",
    "N": "newton",
    "W": "watt",
    "kW": "kilowatt",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "Pa": "pascal",
    "kPa": "kilopascal",
    "rad": "radian",
}
"""Units with their other names; an s at the end of a name is ignored."""
CANONICAL = {unit: unit for unit in NAMES} | {name: unit for unit, names in NAMES.items() for name in names.split()}
CANONICAL |= {"mph": "mi/h", "kmh": "km/h", "kph": "km/h"}
MONEY = ("$", "cent", "€", "£")
DECORATION = re.compile(r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf|operatorname)|[{}\s,.~]|\\[,;:! ]")
POWER = re.compile(r"\^?([23])$")
WORDY = re.compile(r"^(square|cubic)|(squared|cubed)$")


def canonical(written: str) -> str:
    """The unit as it is compared, with its power, as in cm^2; "" for words that are no known unit."""
    words = DECORATION.sub(lambda mark: " " if mark[0].isspace() or mark[0] == "~" else "", written.strip()).strip()
    over, slash, under = re.sub(r"\s+per\s+", "/", words).partition("/")
    if slash:
        pair = canonical(over), canonical(under)
        if pair[0] in MONEY:
            return pair[0]  # $12 an hour is also written $12
        return "/".join(pair) if all(pair) else ""
    name, power = POWER.sub("", words), POWER.search(words)
    worded = WORDY.search(name)
    name = WORDY.sub("", name).strip().lstrip("\\^").strip()
    exponent = (
        power[1] if power else {"s": "2", "c": "3"}[worded[0][0]] if worded and worded[0][:2] in ("sq", "cu") else ""
    )
    lower = name if name in CANONICAL else name.casefold()
    unit = CANONICAL.get(lower) or CANONICAL.get(lower.removesuffix("s")) or ""
    return f"{unit}^{exponent}" if unit and exponent else unit
