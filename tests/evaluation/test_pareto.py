import random

import pytest

from tunesmith.evaluation.comparison import pareto_front


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        pytest.param({"base": (0.2, 0)}, ["base"], id="one alone"),
        pytest.param({"base": (0.2, 0), "worse": (0.1, 5)}, ["base"], id="costlier and worse"),
        pytest.param({"base": (0.2, 0), "good": (0.6, 5)}, ["base", "good"], id="costlier and better"),
        pytest.param({"base": (0.2, 0), "a": (0.6, 5), "b": (0.6, 4)}, ["base", "b"], id="as good at a lower cost"),
        pytest.param({"base": (0.2, 0), "a": (0.6, 5), "b": (0.7, 5)}, ["base", "b"], id="better at the same cost"),
        pytest.param({"a": (0.6, 5), "b": (0.6, 5)}, ["a", "b"], id="equal in both"),
        pytest.param({"dear": (0.9, 9), "cheap": (0.1, 1)}, ["cheap", "dear"], id="the cheapest first"),
        pytest.param({}, [], id="none"),
    ],
)
def test_no_model_on_the_front_is_beaten(models: dict[str, tuple[float, float]], expected: list[str]) -> None:
    assert pareto_front(models) == expected


def test_quality_rises_with_cost_along_the_front_and_everything_off_it_is_beaten_from_it() -> None:
    draw = random.Random(0)
    models = {str(name): (draw.randrange(9) / 9, draw.randrange(9)) for name in range(40)}
    optimal = pareto_front(models)
    assert [models[name] for name in optimal] == sorted(models[name] for name in optimal)
    for name in set(models) - set(optimal):
        score, cost = models[name]
        assert any(models[other][0] >= score and models[other][1] <= cost for other in optimal)
