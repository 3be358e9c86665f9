"""The template by which `dvc plots` draws scores with their intervals: the chart of the comparison page."""

import json
from pathlib import Path

from tunesmith.reports import charts

PATH = Path(".dvc/plots/intervals.json")
"""Where DVC finds the template that dvc.yaml names `intervals`."""


def template() -> str:
    """The template of scores: the models of each revision, each with its interval."""
    by_revision = {"field": "rev", "type": "nominal"}
    anchors = {
        charts.DATA: charts.DATA,
        "<TITLE>": "<DVC_METRIC_TITLE>",
        "<WIDTH>": 400,
        "<SCORE>": "<DVC_METRIC_X_LABEL>",
        "<SCALE>": {"zero": False},
        "<FORMAT>": "~r",
        "<DIGITS>": ".3~g",
        "<OFFSET>": by_revision,
        "<COLOUR>": by_revision,
    }
    return json.dumps(charts.fill(charts.read_spec("scores.json"), anchors), indent=1) + "\n"
