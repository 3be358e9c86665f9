import pytest

from tunesmith.core import formatting


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (12, "12 B"), (19_593_064, "19.6 MB"), (3.1e9, "3.10 GB")])
def test_a_size_has_a_decimal_unit(value: float | None, text: str) -> None:
    assert formatting.size(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (9.4, "9s"), (99.2, "1m 39s"), (7530, "2h 05m")])
def test_seconds_become_hours_minutes_and_seconds(value: float | None, text: str) -> None:
    assert formatting.seconds(value) == text


@pytest.mark.parametrize(("share", "text"), [(None, "–"), (0.359, "+35.9"), (-0.031, "−3.1"), (0.0, "+0.0")])
def test_differences_keep_their_sign(share: float | None, text: str) -> None:
    assert formatting.points(share) == text


@pytest.mark.parametrize(("pair", "text"), [((3.32e9, 3.05e9), "1.09×"), ((None, 1), "–"), ((1, None), "–")])
def test_a_ratio_needs_both(pair: tuple[float | None, float | None], text: str) -> None:
    assert formatting.ratio(*pair) == text
