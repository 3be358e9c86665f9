"""The Pareto front: the models that no other beats on quality without costing more."""

from collections.abc import Mapping


def front(models: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the models on the front, the cheapest first; models: name -> (score, cost).

    A model is on it if no other is at least as good and at most as costly, and strictly so in one of the two. Models
    alike in both do not push each other off.
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
