"""The Pareto front of a quality and a cost."""

from collections.abc import Mapping


def pareto_front(models: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the models on the Pareto front, the cheapest first. models: name -> (score, cost).

    A model is on it if no other is at least as good and at most as costly, and strictly so in one of the two. Models
    equal in both are on it together.
    """
    optimal = [
        name
        for name, (score, cost) in models.items()
        if not any(
            other_score >= score and other_cost <= cost and (other_score, other_cost) != (score, cost)
            for other_score, other_cost in models.values()
        )
    ]
    return sorted(optimal, key=lambda name: models[name][1])
