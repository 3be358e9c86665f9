"""The correction for candidates of sweeps that met the test split: none for a first winner, more for each after it."""

from typing import Any

import numpy as np
from shoot_out import HOW, SUITE, evaluated

from tunesmith.evaluation import comparison
from tunesmith.evaluation.candidates import Swept, adjusted
from tunesmith.evaluation.gate import decide_all
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.reports import comparison_page, sentences

BASE = evaluated("base", ["x"] * 40)
RULE: dict[str, Any] = {"must": "improve", "suite": SUITE, "metric": "score", "by": 0.0}
GATE = Gate.model_validate({"rules": [RULE]})


def swept(applied: int, trials: int = 12) -> dict[str, Swept]:
    names = tuple(f"tuned-s1-{number:02d}" for number in range(1, applied + 1))
    return {"tuned": Swept(by="loss", tried={"tuned-s1": trials}, applied=names)}


def right(count: int) -> list[str]:
    return [str(number) if number < count else "x" for number in range(40)]


def test_a_first_winner_needs_no_correction_however_many_were_tried() -> None:
    models = [BASE, evaluated("tuned", right(6))]
    alone = comparison.compare(models, [], HOW)["against_baseline"]
    assert comparison.compare(models, [], HOW, swept=swept(1, trials=1000))["against_baseline"] == alone
    assert decide_all(GATE, models, [], swept=swept(1)) == decide_all(GATE, models, [])


def test_every_further_candidate_multiplies_the_p_values() -> None:
    models = [BASE, evaluated("tuned", right(6))]  # 6 won, none lost: p = 1/32
    alone = comparison.compare(models, [], HOW)["against_baseline"]["tuned"]
    third = comparison.compare(models, [], HOW, swept=swept(3))["against_baseline"]["tuned"]
    assert (alone["p_adjusted"], third["p_adjusted"]) == (1 / 32, 3 / 32)
    assert (alone["verdict"], third["verdict"]) == ("better", "undecided")
    decided, corrected = (decide_all(GATE, models, [], swept=swept(count))["tuned"] for count in (1, 3))
    assert (decided["outcome"], corrected["outcome"]) == ("pass", "undecided")
    assert "as the best of 3 candidates" in corrected["reason"]
    assert (corrected["rules"][0]["needed"] or 0) > (decided["rules"][0]["needed"] or 0)
    assert adjusted(0.5, 3) == 1


def test_the_best_of_several_equal_candidates_passes_as_rarely_as_one() -> None:
    """Of candidates that are no better than the base, the luckiest is shown: with the correction it rarely passes."""
    draws = np.random.default_rng(0)
    passed = {1: 0, 4: 0}
    for _ in range(120):
        before = draws.integers(0, 2, 60)
        wins = [int(np.sum(draws.integers(0, 2, 60) > before)) for _ in range(4)]
        losses = [int(np.sum(draws.integers(0, 2, 60) < before)) for _ in range(4)]
        luckiest = int(np.argmax(np.subtract(wins, losses)))
        answers = ["x"] * losses[luckiest] + [str(losses[luckiest] + place) for place in range(wins[luckiest])]
        base = [str(place) for place in range(losses[luckiest])] + ["x"] * wins[luckiest]
        models = [evaluated("base", base), evaluated("tuned", answers)]
        for count in passed:
            passed[count] += decide_all(GATE, models, [], swept=swept(count))["tuned"]["outcome"] == "pass"
    assert passed[4] <= 6 < passed[1]  # 5% of 120


def test_the_page_and_the_sentence_say_how_many_were_tried() -> None:
    models = [BASE, evaluated("tuned", right(30))]
    first, second = (comparison.compare(models, [], HOW, swept=swept(count)) for count in (1, 2))
    assert first["sweeps"] == {"tuned": {"by": "loss", "trials": 12, "met_test": ["tuned-s1-01"]}}
    assert sentences.tried("tuned", first["sweeps"]["tuned"]) == (
        "tuned: its params were chosen of 12 trials by the lowest validation loss; none of the others met these "
        "prompts, so nothing is corrected for them."
    )
    said = sentences.tried("tuned", second["sweeps"]["tuned"])
    assert said.endswith("another candidate met these prompts before (tuned-s1-01): p-values are times 2.")
    assert said in comparison_page.page(second, models)
    assert comparison.compare(models, [], HOW)["sweeps"] == {}
