import json
from typing import Any

import pytest
from shoot_out import HOW, SUITE, evaluated, journal, models

from tunesmith.core.errors import EvaluationError
from tunesmith.evaluation import comparison
from tunesmith.evaluation.gate import decide_all
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.evaluation.trainings import selection
from tunesmith.reports import comparison_page, sentences

LEADERS = {
    "base": ["x"] * 40,
    "good": [str(number) for number in range(29)] + ["x"] * 11,
    "better": [str(number) for number in range(30)] + ["x"] * 10,
}


def test_the_better_model_is_named_with_its_lead_and_the_prompts_that_changed() -> None:
    base, tuned = evaluated("base", ["x"] * 39 + ["39"]), evaluated("tuned", [str(i) for i in range(39)] + ["0"])
    compared = comparison.compare([base, tuned], [], HOW)
    result = compared["against_baseline"]["tuned"]
    assert result["verdict"] == "better"
    assert result["difference"] == pytest.approx(38 / 40)
    assert result["regressed"] == ["39"]
    assert len(result["improved"]) == 39
    assert sentences.headline("tuned", compared).startswith(
        "tuned is better than base: accuracy 2.5% → 97.5% on 40 prompts"
    )


def test_equal_models_are_undecided() -> None:
    compared = comparison.compare([evaluated("base", ["0"] * 9), evaluated("same", ["0"] * 9)], [], HOW)
    assert compared["against_baseline"]["same"]["verdict"] == "undecided"
    assert "cannot be told from" in sentences.headline("same", compared)


@pytest.mark.parametrize(
    "changes",
    [
        {"template_digest": "x"},
        {"base_weights_digest": "x"},
        {"suite": {"prompts_digest": "x"}},
        {"suite": {"verifier": "x"}},
        {"suites": {}},
    ],
)
def test_models_that_were_evaluated_differently_are_not_compared(changes: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match="no fair comparison"):
        comparison.compare([evaluated("base", ["0", "1"]), evaluated("tuned", ["0", "1"], **changes)], [], HOW)


def test_a_prompt_that_is_not_gradable_in_one_model_leaves_the_pairs() -> None:
    base, tuned = evaluated("base", ["x"] * 10), evaluated("tuned", ["0"] * 10)
    base.samples[SUITE][0]["status"] = "not_gradable"
    assert comparison.compare([base, tuned], [], HOW)["against_baseline"]["tuned"]["prompts"] == 9


def test_a_hosted_model_is_a_baseline_and_no_candidate() -> None:
    base, tuned, hosted = (
        evaluated("base", ["x"] * 40),
        evaluated("tuned", LEADERS["better"]),
        evaluated("h", ["x"] * 40),
    )
    about = {"models": {"ft:mine": 40}, "first": "2026-01-02", "last": "2026-01-02", "answers": 40, "refused": 0}
    hosted.metrics.update(
        model="baseline", template_digest="", hosted=about | {"prompt_tokens": 9, "completion_tokens": 9}
    )
    rule: dict[str, Any] = {"must": "improve", "suite": SUITE, "metric": "score", "by": 0.1}
    gate = Gate.model_validate({"against": "baseline", "rules": [rule]})
    decisions = decide_all(gate, [base, tuned], [], hosted)
    assert {name: (made["against"], made["outcome"]) for name, made in decisions.items()} == {
        "tuned": ("baseline", "pass")
    }
    compared = comparison.compare([base, tuned], [], HOW, None, decisions, hosted)
    assert list(compared["models"]) == ["base", "tuned"]
    assert compared["hosted"]["models"] == {"ft:mine": 40}
    assert compared["hosted_scores"][SUITE]["score"] == 0
    page = comparison_page.page(compared, [base, tuned])
    assert "40 answers of ft:mine, asked from 2026-01-02" in page
    hosted.samples[SUITE].pop()
    with pytest.raises(EvaluationError, match="did not answer the same prompts"):
        decide_all(gate, [base, tuned], [], hosted)


def test_a_comparison_is_plain_json() -> None:
    compared = comparison.compare([evaluated("base", ["0", "x"]), evaluated("tuned", ["0", "1"])], [], HOW)
    assert json.loads(json.dumps(compared)) == compared


def test_a_few_lucky_prompts_leave_it_undecided() -> None:
    base, tuned = evaluated("base", ["x"] * 4 + ["9"] * 96), evaluated("tuned", ["0", "1", "2", "3"] + ["9"] * 96)
    result = comparison.compare([base, tuned], [], HOW)["against_baseline"]["tuned"]
    assert result["low"] > 0
    assert result["p_value"] == pytest.approx(0.125)
    assert result["verdict"] == "undecided"


def test_a_prompt_that_was_trained_on_is_refused() -> None:
    trained_on = [{"prompt": [{"role": "user", "content": "WHAT is  1?"}]}]
    with pytest.raises(EvaluationError, match=r"1 of 2 test prompts of sums were also trained on \(rows 1\)"):
        comparison.compare([evaluated("base", ["0", "1"]), evaluated("tuned", ["0", "1"])], trained_on, HOW)


def test_a_model_is_compared_with_its_start() -> None:
    compared = comparison.compare(models("sft-lora", "sft-full", "dpo", "grpo"), [], HOW)
    assert {name: result["start"] for name, result in compared["against_start"].items()} == {
        "dpo": "sft-lora",
        "grpo": "sft-lora",
    }
    result, scores = compared["against_start"]["grpo"], compared["models"]
    assert result["difference"] == pytest.approx(scores["grpo"]["score"] - scores["sft-lora"]["score"])
    assert {"low", "high", "p_value", "verdict"} <= set(result)


def test_a_model_is_compared_with_its_start_on_every_suite() -> None:
    compared = comparison.compare(models("sft-lora", "dpo"), [], HOW)
    for suite in compared["suites"].values():
        assert list(suite["against_start"]) == ["dpo"]
        scores, result = suite["models"], suite["against_start"]["dpo"]
        assert result["difference"] == pytest.approx(scores["dpo"]["score"] - scores["sft-lora"]["score"])
        assert result["p_adjusted"] >= result["p_value"]


def test_a_start_that_is_not_compared_is_left_out() -> None:
    assert comparison.compare(models("dpo"), [], HOW)["against_start"] == {}


def test_the_best_is_compared_with_every_other_model() -> None:
    base, good, better = (evaluated(name, texts) for name, texts in LEADERS.items())
    compared = comparison.compare([base, good, better], [], HOW)
    assert compared["best"] == "better"
    assert {name: result["verdict"] for name, result in compared["against_best"].items()} == {
        "base": "worse",
        "good": "undecided",
    }


def test_the_first_of_equal_models_is_the_best() -> None:
    compared = comparison.compare([evaluated(name, ["0", "1"]) for name in ("base", "one", "two")], [], HOW)
    assert compared["best"] == "base"


def test_a_models_time_includes_every_training_it_builds_on() -> None:
    compared = comparison.compare(models("sft-lora", "rlhf"), [], HOW)["models"]
    assert compared["rlhf"]["cost"]["seconds"] == pytest.approx(99.2 + 61 + 402)
    assert compared["sft-lora"]["cost"] == {"seconds": 99.2, "memory": 3.32e9, "size": 19_593_064}
    assert compared["base"]["cost"] == {"seconds": 0, "memory": 0, "size": 0}


def test_measured_memory_stands_beside_its_prediction() -> None:
    training = comparison.compare(models("sft-full"), [], HOW)["models"]["sft-full"]["training"]
    assert (training["peak_memory_bytes"], training["predicted_memory_bytes"]) == (4.98e9, 5.4e9)


def test_the_front_of_every_cost_starts_at_the_base() -> None:
    fronts = comparison.compare(models("sft-lora", "sft-qlora", "sft-full", "grpo"), [], HOW)["pareto"]
    assert set(fronts) == {"seconds", "memory", "size"}
    assert all(front[0] == "base" for front in fronts.values())
    assert "sft-full" not in fronts["size"]


def test_the_step_that_was_kept_is_told_with_the_measurements_that_chose_it() -> None:
    compared = comparison.compare(models("sft-lora", "sft-qlora", "dpo", "grpo"), [], HOW)["models"]
    choices = {name: model["training"]["selection"] for name, model in compared.items()}
    assert choices.pop("base") is None
    assert {name: (choice["steps"], choice["kept"], choice["by"]) for name, choice in choices.items()} == {
        "sft-lora": (60, 36, "loss"),
        "sft-qlora": (60, 60, None),
        "dpo": (60, 60, "loss"),
        "grpo": (60, 48, "score"),
    }
    assert [one["step"] for one in choices["dpo"]["validation"]] == [0, 12, 24, 36, 48, 60]
    assert all({*one} == {"step", "loss", "accuracy", "margin"} for one in choices["dpo"]["validation"])
    assert choices["sft-qlora"]["validation"] == []


def test_a_last_step_that_params_keep_was_chosen_by_nothing() -> None:
    start, *events = journal("sft-lora")
    assert selection([start | {"params": {"sft": {"sft-lora": {"keep": "last"}}}}, *events])["by"] is None
    assert selection([start | {"merged": "sft-lora"}, *events]) is None


def test_an_older_journal_leaves_gaps_not_errors() -> None:
    compared = comparison.compare([evaluated("base", ["0", "x"]), evaluated("old", ["0", "1"])], [], HOW)
    old = compared["models"]["old"]
    assert old["cost"] == {"seconds": 60.0, "memory": None, "size": 1000}
    assert (old["method"], old["held_out"], old["warnings"]) == (None, {}, [])
    assert old["training"]["selection"] is None


def test_a_training_cut_short_has_no_cost_and_is_on_no_front() -> None:
    cut = evaluated("cut", ["0", "1"])
    cut.training.pop()
    compared = comparison.compare([evaluated("base", ["0", "x"]), cut], [], HOW)
    assert compared["models"]["cut"]["cost"] == {"seconds": None, "memory": None, "size": 1000}
    assert compared["pareto"] == {"seconds": ["base"], "memory": ["base"], "size": ["base", "cut"]}


def test_preferences_before_and_after_and_warnings_are_kept() -> None:
    compared = comparison.compare(models("dpo", "rlhf"), [], HOW)["models"]
    assert compared["dpo"]["held_out"]["after"]["accuracy"] == 0.844
    assert compared["rlhf"]["warnings"] == ["the reward rose by 1.9 while the verifier's score fell"]


def test_one_lucky_suite_of_several_leaves_it_undecided() -> None:
    """Of seven prompts that differ, all seven are gained: p = 0.016 alone, but there are four suites."""
    base, tuned = evaluated("base", ["x"] * 7 + ["9"] * 50), evaluated("tuned", [str(i) for i in range(7)] + ["9"] * 50)
    alone = comparison.compare([base, tuned], [], HOW)["against_baseline"]["tuned"]
    assert (alone["verdict"], alone["p_adjusted"]) == ("better", alone["p_value"])
    for model in (base, tuned):
        for other in ("b", "c", "d"):
            model.metrics["suites"][other] = model.metrics["suites"][SUITE]
            model.samples[other] = base.samples[SUITE]
    result = comparison.compare([base, tuned], [], HOW)["suites"][SUITE]["against_baseline"]["tuned"]
    assert result["p_adjusted"] == pytest.approx(4 * alone["p_value"])
    assert result["verdict"] == "undecided"
