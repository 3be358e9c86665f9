from pathlib import Path

import pytest
from shoot_out import SETTINGS, rows, samples

from tunesmith import device, evaluation, generation, models
from tunesmith.errors import EvaluationError
from tunesmith.evaluation import Evaluate


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
