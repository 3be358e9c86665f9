"""The charts of a comparison: scores with their intervals, and quality against each cost."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tunesmith.core import formatting
from tunesmith.evaluation.documents import ComparedModel, Comparison, CostName
from tunesmith.reports import charts, sentences
from tunesmith.reports.charts import Chart, Column, Row

WIDE = 5
"""Costs that span more than this factor are drawn on a logarithmic axis."""


class Unit(NamedTuple):
    """A unit of an axis."""

    name: str
    size: float
    """The number of seconds or bytes that it is."""


TIME = (Unit("seconds", 1), Unit("minutes", 60), Unit("hours", 3600))
BYTES = (Unit("bytes", 1), Unit("kB", 1e3), Unit("MB", 1e6), Unit("GB", 1e9))
COSTS: dict[CostName, tuple[str, tuple[Unit, ...], Callable[[float], str]]] = {
    "seconds": ("training time", TIME, formatting.seconds),
    "memory": ("peak memory", BYTES, formatting.size),
    "size": ("artifact size", BYTES, formatting.size),
}
"""The name of each cost of a comparison, its units, rising, and the function that writes one."""


def scores(comparison: Comparison) -> Chart:
    """The score of every model on the first suite, with its interval."""
    about = sentences.ranking(comparison)
    what = sentences.measured(about)
    rows = [_scored(name, model, comparison) for name, model in comparison["models"].items()]
    ends = [end for model in comparison["models"].values() for end in (model["low"], model["high"])]
    anchors = {
        **_score_anchors(comparison),
        "<TITLE>": None,
        "<WIDTH>": "container",
        "<SCALE>": {"zero": False, "domain": [0, 1] if about["share"] else [min(ends), max(ends)]},
        "<DIGITS>": ".1%" if about["share"] else ".4~g",
        "<OFFSET>": None,
        "<COLOUR>": {"condition": {"test": "datum.base", "value": {"expr": "base"}}, "value": {"expr": "mark"}},
    }
    columns: dict[str, Column] = {
        "model": ("model", str),
        "score_text": (what, str),
        "interval_text": ("interval", str),
    }
    title = f"{what} of every model on {comparison['suite']}, with its {100 * comparison['confidence']:g}% interval"
    return charts.chart("scores.json", rows, title=title, columns=columns, anchors=anchors)


def cost(comparison: Comparison, name: CostName) -> Chart:
    """The score of every model against a cost; the base, which costs nothing, is a line across."""
    title, units, write = COSTS[name]
    models = comparison["models"]
    spent = {model: value for model, one in models.items() if (value := one["cost"][name]) is not None}
    positive = [value for value in spent.values() if value > 0]
    unit = next((unit for unit in reversed(units) if max(positive, default=0) >= unit.size), units[0])
    rows: list[Row] = [
        {
            **_scored(model, models[model], comparison),
            "cost": value / unit.size if value > 0 else None,
            "cost_text": write(value),
            "front": model in comparison["pareto"][name],
        }
        for model, value in spent.items()
    ]
    wide = bool(positive) and max(positive) > WIDE * min(positive)
    what = sentences.measured(sentences.ranking(comparison))
    columns: dict[str, Column] = {
        "model": ("model", str),
        "cost_text": (title, str),
        "score_text": (what, str),
        "interval_text": ("interval", str),
        "front": ("on the Pareto front", lambda is_on: "yes" if is_on else "no"),
    }
    missing = [model for model in models if model not in spent]
    anchors = {
        **_score_anchors(comparison),
        "<COST>": f"{title}, {unit.name}{' (logarithmic)' if wide else ''}",
        "<COST_NAME>": title,
        "<SCALE>": {"type": "log", "padding": 24}
        if wide
        else {"type": "linear", "nice": False, "domain": [0, 1.12 * max(positive, default=1) / unit.size]},
    }
    note = f". Not measured, not drawn: {', '.join(missing)}" if missing else ""
    heading = f"{what} against {title}{note}"
    return charts.chart("cost.json", rows, title=heading, columns=columns, anchors=anchors)


def _scored(name: str, model: ComparedModel, comparison: Comparison) -> dict[str, charts.Value]:
    share = sentences.ranking(comparison)["share"]
    return {
        "model": name,
        "base": name == comparison["baseline"],
        "score": model["score"],
        "low": model["low"],
        "high": model["high"],
        "score_text": formatting.score(model["score"], share),
        "interval_text": " to ".join(formatting.score(end, share) for end in (model["low"], model["high"])),
    }


def _score_anchors(comparison: Comparison) -> Mapping[str, object]:
    about = sentences.ranking(comparison)
    return {"<SCORE>": sentences.measured(about), "<FORMAT>": "~%" if about["share"] else ",~r"}
