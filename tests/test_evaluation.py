import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import comparison, device, evaluation, generation, models, report, results, words
from tunesmith.comparison import Compare, Evaluated
from tunesmith.errors import EvaluationError
from tunesmith.evaluation import Completion, Evaluate, Sample

SETTINGS = Evaluate(dataset="demo", verifier="number", answer_format=r"-?\d+", max_new_tokens=8, batch_size=2)
HOW = Compare(confidence=0.95, resamples=500, seed=0)


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": f"what is {number}?"}],
            "completion": [{"role": "assistant", "content": str(number)}],
        }
        for number in range(count)
    ]


def samples(completions: list[str]) -> list[Sample]:
    answers = [Completion(text, "rendered", len(text), stopped=len(text) < 8) for text in completions]
    return evaluation.grade(rows(len(completions)), answers, SETTINGS)


def evaluated(name: str, completions: list[str], **changes: Any) -> Evaluated:
    graded = samples(completions)
    metrics = {
        "model": name,
        "dataset": "demo",
        "verifier": "number",
        "template_digest": "t",
        "base_weights_digest": "b",
        "model_digest": name,
        "seconds": 1.0,
        **evaluation.summarize(graded),
    }
    training = [] if name == "base" else [{"event": "step", "step": 1, "loss": 2.0}, {"event": "end", "seconds": 60.0}]
    return Evaluated(metrics | changes, graded, training, weights_bytes=1000)


def test_a_sample_keeps_what_was_asked_answered_and_why() -> None:
    right, wrong, none = samples(["0", "it is 7", "no idea at all"])
    assert (right["score"], right["well_formed"], right["stopped"]) == (1, True, True)
    assert (wrong["score"], wrong["well_formed"], wrong["answer"]) == (0, False, "7")
    assert (none["status"], none["stopped"]) == ("no_answer", False)


def test_the_mean_leaves_out_what_could_not_be_graded_and_counts_it() -> None:
    graded = samples(["0", "9", "x"])
    graded[1]["status"] = "not_gradable"
    summary = evaluation.summarize(graded)
    assert (summary["score"], summary["not_gradable"], summary["no_answer"]) == (0.5, 1, 1)


def test_other_prompts_have_another_digest() -> None:
    assert evaluation.prompts_digest(samples(["0"])) == evaluation.prompts_digest(samples(["1"]))
    assert evaluation.prompts_digest(samples(["0"])) != evaluation.prompts_digest(samples(["0", "1"]))


def test_a_format_that_is_no_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        Evaluate(dataset="d", verifier="number", answer_format="(", max_new_tokens=1, batch_size=1)


def test_the_better_model_is_told_by_how_much_and_on_which_prompts() -> None:
    base, tuned = evaluated("base", ["x"] * 39 + ["39"]), evaluated("tuned", [str(i) for i in range(39)] + ["0"])
    made = comparison.compare([base, tuned], [], HOW)
    result = made["against_baseline"]["tuned"]
    assert result["verdict"] == "better"
    assert result["difference"] == pytest.approx(38 / 40)
    assert result["regressed"] == ["39"]
    assert len(result["improved"]) == 39
    assert words.headline("tuned", made).startswith("tuned is better than base: 2.5% → 97.5% right on 40 prompts")


def test_equal_models_are_not_told_apart() -> None:
    made = comparison.compare([evaluated("base", ["0"] * 9), evaluated("same", ["0"] * 9)], [], HOW)
    assert made["against_baseline"]["same"]["verdict"] == "undecided"
    assert "cannot be told from" in words.headline("same", made)


@pytest.mark.parametrize("key", ["prompts_digest", "template_digest", "base_weights_digest", "verifier"])
def test_what_was_not_evaluated_alike_is_not_compared(key: str) -> None:
    with pytest.raises(EvaluationError, match="no fair comparison"):
        comparison.compare([evaluated("base", ["0"]), evaluated("tuned", ["0"], **{key: "other"})], [], HOW)


def test_a_sample_that_one_side_could_not_grade_leaves_the_pairs() -> None:
    base, tuned = evaluated("base", ["x"] * 10), evaluated("tuned", ["0"] * 10)
    base.samples[0]["status"] = "not_gradable"
    assert comparison.compare([base, tuned], [], HOW)["against_baseline"]["tuned"]["prompts"] == 9


def test_the_page_shows_hostile_answers_as_text() -> None:
    attack = "<script>alert(1)</script>"
    models_ = [evaluated("base", [attack, "1"]), evaluated("tuned", ["0", "1"])]
    page = report.page(comparison.compare(models_, [], HOW), models_)
    assert attack not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_page_marks_every_prompt_by_how_it_changed() -> None:
    models_ = [evaluated("base", ["x", "1", "2"]), evaluated("tuned", ["0", "x", "2"])]
    page = report.page(comparison.compare(models_, [], HOW), models_)
    assert [page.count(f'<tr data-change="{kind}"') for kind in ("improved", "regressed", "same")] == [1, 1, 1]


def test_a_comparison_is_plain_json() -> None:
    made = comparison.compare([evaluated("base", ["0", "x"]), evaluated("tuned", ["0", "1"])], [], HOW)
    assert json.loads(json.dumps(made)) == made


def test_an_earlier_models_registration_is_not_shown_as_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "REPORTS", tmp_path)
    assert results.registered("tuned", "d2") == "tuned is not registered yet"
    (tmp_path / "tuned").mkdir()
    made = {"registered_model": "m", "version": "1", "model_digest": "d1"}
    (tmp_path / "tuned" / "registration.json").write_text(json.dumps(made))
    assert results.registered("tuned", "d1") == "registered: m version 1 (tuned)"
    assert results.registered("tuned", "d2") == "tuned is not registered yet: m version 1 is an earlier tuned"


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (12, "12 B"), (19_593_064, "19.6 MB"), (3.1e9, "3.10 GB")])
def test_sizes_read_well(value: float | None, text: str) -> None:
    assert words.size(value) == text


def test_lm_eval_gives_what_the_model_answers_alone(tiny_base: Path) -> None:
    """Batched, padded and sorted by lm-eval, every prompt gets the completion that it gets on its own."""
    from tunesmith import harness

    opened = models.open_model(tiny_base, tiny_base, device.detect())
    asked = rows(5)
    asked[2]["prompt"].insert(0, {"role": "system", "content": "Answer as briefly as you possibly can."})
    answers, score = harness.generate_and_grade(opened, asked, verifier="number", max_new_tokens=6, batch_size=2)
    alone = [generation.answer(opened.model, opened.tokenizer, [row["prompt"]], max_new_tokens=6)[0] for row in asked]
    assert [answer.text for answer in answers] == [text.split("<|im_end|>")[0] for text in alone]
    assert [answer.stopped for answer in answers] == ["<|im_end|>" in text for text in alone]
    assert all(answer.tokens == 6 for answer in answers if not answer.stopped)
    assert score == evaluation.summarize(evaluation.grade(asked, answers, SETTINGS))["score"]


def test_a_prompt_without_room_for_an_answer_is_refused_not_cut(tiny_base: Path) -> None:
    from tunesmith import harness

    opened = models.open_model(tiny_base, tiny_base, device.detect())
    long = rows(2)
    long[1]["prompt"][0]["content"] = "long " * 300
    with pytest.raises(EvaluationError, match=r"1 prompts do not fit .* \(rows 1\)"):
        harness.generate_and_grade(opened, long, verifier="number", max_new_tokens=6, batch_size=2)


def test_references_that_look_like_dates_stay_text(tiny_base: Path) -> None:
    from tunesmith import harness

    opened = models.open_model(tiny_base, tiny_base, device.detect())
    asked = rows(2)
    for row in asked:
        row["completion"][0]["content"] = "2024-01-01"
    answers, _ = harness.generate_and_grade(opened, asked, verifier="number", max_new_tokens=2, batch_size=2)
    assert len(answers) == 2


def test_references_that_cannot_be_graded_stop_before_anything_is_asked() -> None:
    asked = rows(2)
    for row in asked:
        row["completion"][0]["content"] = "a poem"
    with pytest.raises(EvaluationError, match="can grade none of the 2 test rows of 'demo'"):
        evaluation.check_references(asked, SETTINGS)
    evaluation.check_references(rows(2), SETTINGS)


def test_a_prompt_rendered_otherwise_is_another_prompt() -> None:
    first, second = samples(["0"]), samples(["0"])
    second[0]["rendered"] = "on another day"
    assert evaluation.prompts_digest(first) != evaluation.prompts_digest(second)


def test_a_few_lucky_prompts_prove_nothing() -> None:
    base, tuned = evaluated("base", ["x"] * 4 + ["9"] * 96), evaluated("tuned", ["0", "1", "2", "3"] + ["9"] * 96)
    result = comparison.compare([base, tuned], [], HOW)["against_baseline"]["tuned"]
    assert result["low"] > 0
    assert result["p_value"] == pytest.approx(0.125)
    assert result["verdict"] == "undecided"


def test_a_prompt_that_trained_cannot_judge() -> None:
    trained_on = [{"prompt": [{"role": "user", "content": "WHAT is  1?"}]}]
    with pytest.raises(EvaluationError, match=r"1 of 2 test prompts were also trained on \(rows 1\)"):
        comparison.compare([evaluated("base", ["0", "1"]), evaluated("tuned", ["0", "1"])], trained_on, HOW)
