import json
import re

import pytest
from reports.specs import drawn
from shoot_out import HOW, evaluated

from tunesmith.evaluation import comparison
from tunesmith.reports import charts, comparison_charts, templating
from tunesmith.reports.charts import FOLDER, Chart

SPECS = sorted(path.name for path in (FOLDER / "specs").iterdir())
STYLE = (templating.TEMPLATES / "head.html.j2").read_text()


def scores(*names: str) -> Chart:
    return comparison_charts.scores(comparison.compare([evaluated(name, ["0", "x"]) for name in names], [], HOW))


def test_a_chart_has_its_rows_and_a_table_of_them() -> None:
    chart = scores("base", "dpo")
    assert [row[:2] for row in chart.table] == [["base", "50.0%"], ["dpo", "50.0%"]]
    svg = drawn(chart.spec)
    assert "dpo" in svg
    assert "accuracy" in svg


def test_a_missing_anchor_is_an_error() -> None:
    with pytest.raises(KeyError, match="<TITLE>"):
        charts.chart("scores.json", [], title="", columns={}, anchors={})


def test_a_name_cannot_leave_its_script_element() -> None:
    attack = "</script><script>alert(1)</script>"
    chart = scores("base", attack)
    assert "<" not in chart.document
    assert json.loads(chart.document)["data"]["values"][1]["model"] == attack


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_has_one_place_for_rows_and_no_address_to_load_from(name: str) -> None:
    text = (FOLDER / "specs" / name).read_text()
    assert text.count(charts.DATA) == 1
    assert not re.search(r'"url"|"lookup"|"href"', text)


@pytest.mark.parametrize("name", SPECS)
def test_a_param_named_like_a_colour_has_its_light_value(name: str) -> None:
    light = dict(re.findall(r"--([\w-]+): (#\w+);", STYLE.split("@media")[0]))
    params = charts.read_spec(name).get("params", [])
    assert isinstance(params, list)
    for param in params:
        if param["name"] in light:
            assert param["value"] == light[param["name"]], param


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_have_contrast(scheme: int) -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for graphics."""
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", re.split(r"(?=@media screen)", STYLE)[scheme].split("body {")[0]))
    graphics = ["mark", "held", "base", *(f"series-{number}" for number in range(1, 9))]
    texts = ["ink", "soft", "good", "bad", "warn"]
    for ground in ("ground", "card"):
        assert {name for name in texts if contrast(colours[name], colours[ground]) < 4.5} == set()
        assert {name for name in graphics if contrast(colours[name], colours[ground]) < 3} == set()


def contrast(first: str, second: str) -> float:
    """The contrast of two colours."""
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
