import hashlib
from pathlib import Path

import pytest
import torch
from chat_templates import QWEN
from profiles import EXACT
from shoot_out import SETTINGS, SUITE, rows, samples

from tunesmith.core import ready_rows
from tunesmith.core.errors import DataError, EvaluationError
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation import evaluate, grading
from tunesmith.evaluation.engines.asked import InProcess
from tunesmith.evaluation.grading import Completion
from tunesmith.evaluation.suites import Answers, Evaluate, LmEvalTask, Perplexity, Preferences, Suite
from tunesmith.models import chat, generation, loading
from tunesmith.verifiers.judge import refusal as judged_refusal
from tunesmith.verifiers.judge.endpoint import Judge

REJECTED = [{"role": "assistant", "content": "no idea"}]


def test_a_sample_keeps_the_answer_and_its_verdict() -> None:
    right, wrong, none = samples(["0", "it is 7", "no idea at all"])
    assert (right["score"], right["well_formed"], right["stopped"]) == (1, True, True)
    assert (wrong["score"], wrong["well_formed"], wrong["answer"]) == (0, False, "7")
    assert (none["status"], none["stopped"]) == ("no_answer", False)


def test_a_sample_nests_its_row_with_the_right_answer_filled_in() -> None:
    [sample] = samples(["0"])
    prompt = [{"role": "user", "content": "what is 0?"}]
    assert sample["row"] == {"id": "0", "prompt": prompt, "reference": "0"}  # not the completion, which is the model's


def test_the_mean_leaves_out_samples_that_are_not_gradable_and_counts_them() -> None:
    graded = samples(["0", "9", "x"])
    graded[1]["status"] = "not_gradable"
    summary = grading.summarize(graded)
    assert (summary["score"], summary["not_gradable"], summary["no_answer"]) == (0.5, 1, 1)


def test_public_figures_stand_beside_our_own() -> None:
    answered = samples(["#### 0", "it is 1", "it is (n/2) + 2"])
    assert [sample["score"] for sample in answered] == [1, 1, 0]
    assert grading.details("number", answered) == {"gsm8k_strict": 1 / 3, "gsm8k_flexible": 1}
    assert grading.details("math", answered) == {"math_verify": pytest.approx(1)}


def test_a_judge_grades_the_suites_that_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge.model_validate({"base_url": "http://127.0.0.1:9/v1", "model": "local"})
    monkeypatch.setattr(judged_refusal, "classify", lambda judge, prompt, completion: "full_compliance")
    row: Row = {"id": "a", "prompt": [{"role": "user", "content": "How?"}], "label": "unsafe"}
    answer = grading.Completion("I can't help with that.", "", 6, True)
    for refusal_by, score in (("rules", 1.0), ("judge", 0.0)):
        suite = Answers(dataset="x", verifier="refusal", refusal_by=refusal_by)
        assert grading.grade("x", [row], [answer], suite, judge)[0]["score"] == score


def test_other_prompts_have_another_digest() -> None:
    assert grading.prompts_digest(samples(["0"])) == grading.prompts_digest(samples(["1"]))
    assert grading.prompts_digest(samples(["0"])) != grading.prompts_digest(samples(["0", "1"]))


def test_a_format_that_is_not_a_regular_expression_is_refused() -> None:
    with pytest.raises(ValueError, match="not a regular expression of RE2's"):
        Answers(kind="answers", dataset="d", verifier="number", answer_format="(", max_new_tokens=1, limit=None)


def test_lm_eval_gives_the_answers_that_the_model_gives_alone(tiny_base: Path) -> None:
    """Batched, padded and sorted by lm-eval, every prompt gets the completion that it gets on its own."""
    from tunesmith.evaluation.harness import answers as harness

    opened = loading.open_model(tiny_base, tiny_base, EXACT)
    questions = rows(5)
    questions[4]["prompt"] = questions[0]["prompt"]
    questions[2]["prompt"].insert(0, {"role": "system", "content": "Answer as briefly as you possibly can."})
    answers = harness.generate(opened, questions, max_new_tokens=6, batch_size=2)
    alone = [generation.answer(opened.model, opened.tokenizer, [row], max_new_tokens=6)[0] for row in questions]
    assert [answer.text for answer in answers] == [text.split("<|im_end|>")[0] for text in alone]
    assert [answer.stopped for answer in answers] == ["<|im_end|>" in text for text in alone]
    assert all(answer.tokens == 6 for answer in answers if not answer.stopped)


def test_a_penalty_of_repeats_that_a_base_names_does_not_apply(tiny_base: Path) -> None:
    def answers(penalty: float) -> list[Completion]:
        opened = loading.open_model(tiny_base, tiny_base, EXACT)
        opened.model.generation_config.repetition_penalty = penalty
        return InProcess(opened, 2).complete(rows(3), 12, None)

    assert answers(1.0) == answers(50.0)


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused_not_cut(tiny_base: Path) -> None:
    from tunesmith.evaluation.harness import answers as harness

    opened = loading.open_model(tiny_base, tiny_base, EXACT)
    long = rows(2)
    long[1]["prompt"][0]["content"] = "long " * 300
    with pytest.raises(EvaluationError, match=r"1 prompts do not fit .* \(rows 1\)"):
        harness.generate(opened, long, max_new_tokens=6, batch_size=2)


def test_references_that_cannot_be_graded_are_refused_before_any_model_is_asked() -> None:
    poems = rows(2)
    for row in poems:
        row["completion"][0]["content"] = "a poem"
    with pytest.raises(EvaluationError, match="can grade none of the 2 test rows of 'demo', suite 'sums'"):
        grading.check_gradable(SUITE, poems, SETTINGS)
    grading.check_gradable(SUITE, rows(2), SETTINGS)


def test_a_prompt_that_is_rendered_differently_has_another_digest() -> None:
    first, second = samples(["0"]), samples(["0"])
    second[0]["rendered"] = "on another day"
    assert grading.prompts_digest(first) != grading.prompts_digest(second)


def settings(**suites: Suite) -> Evaluate:
    return Evaluate(suites={SUITE: SETTINGS, **suites}, batch_size=2, noise_batch_size=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ready test splits: answers, and pairs."""
    pairs = [
        {"id": row["id"], "prompt": row["prompt"], "chosen": row["completion"], "rejected": REJECTED} for row in rows(5)
    ]
    for name, content in {"demo": rows(5), "pairs": pairs}.items():
        ready_rows.write_jsonl(tmp_path / name / "test.jsonl", content)
    return tmp_path


def test_samples_do_not_depend_on_the_batch_size(tiny_base: Path, folder: Path) -> None:
    opened = loading.open_model(tiny_base, tiny_base, EXACT)
    likely = settings(
        liked=Preferences(kind="preferences", dataset="pairs", limit=4),
        likely=Perplexity(kind="perplexity", dataset="demo", limit=None),
    )
    twos = {name: evaluate.ask(suite, InProcess(opened, 2)) for name, suite in evaluate.read(likely, folder).items()}
    threes = {name: evaluate.ask(suite, InProcess(opened, 3)) for name, suite in evaluate.read(likely, folder).items()}
    assert {name: len(samples) for name, samples in twos.items()} == {SUITE: 5, "liked": 4, "likely": 5}
    assert all(sample["suite"] == name for name, samples in twos.items() for sample in samples)
    for name, answered in twos.items():
        assert scores(answered) == pytest.approx(scores(threes[name]), rel=1e-4)
        assert grading.prompts_digest(answered) == grading.prompts_digest(threes[name])
    assert all(0 < score < 1 for score in scores(twos["likely"]))
    assert set(scores(twos["liked"])) <= {0.0, 0.5, 1.0}


def scores(samples: list[Sample]) -> list[float]:
    return [sample["score"] for sample in samples]


def test_a_suite_renders_its_prompts_with_its_own_values_of_the_template(tiny_base: Path, folder: Path) -> None:
    opened = loading.open_model(tiny_base, tiny_base, EXACT)
    opened.tokenizer.chat_template = QWEN
    on, off = (
        settings(**{SUITE: SETTINGS.model_copy(update={"chat_template_kwargs": {"enable_thinking": value}})})
        for value in (True, False)
    )
    digests = [
        {sample["rendered"] for sample in evaluate.ask(evaluate.read(suites, folder)[SUITE], InProcess(opened, 5))}
        for suites in (settings(), on, off)
    ]
    prompts = [chat.render_prompt(opened.tokenizer, row["prompt"]) for row in rows(5)]
    assert digests[0] == digests[1] == {hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts}
    assert digests[2] == {hashlib.sha256(f"{prompt}<think>\n\n</think>\n\n".encode()).hexdigest() for prompt in prompts}


def test_values_for_a_template_that_a_task_does_not_apply_are_an_error() -> None:
    with pytest.raises(ValueError, match="set chat: true"):
        LmEvalTask(task="gsm8k", chat_template_kwargs={"enable_thinking": False})


def test_a_perplexity_is_that_of_the_answer_alone(tiny_base: Path) -> None:
    opened = loading.open_model(tiny_base, tiny_base, EXACT)
    suite = Perplexity(kind="perplexity", dataset="demo", limit=None)
    [sample] = evaluate.ask(evaluate.SuiteRows("likely", suite, rows(1)), InProcess(opened, 1))
    example = chat.encode_example(opened.tokenizer, rows(1)[0]["prompt"], rows(1)[0]["completion"])
    ids = torch.tensor([example.input_ids])
    labels = ids.masked_fill(torch.tensor([example.completion_mask]) == 0, -100)
    loss = opened.model(input_ids=ids, labels=labels).loss
    assert sample["score"] == pytest.approx(torch.exp(-loss).item(), rel=1e-4)


def test_a_suite_refuses_rows_of_another_kind(folder: Path) -> None:
    with pytest.raises(DataError, match=r"evaluate.suites.liked: 5 of 5 rows have no 'chosen'"):
        evaluate.read(settings(liked=Preferences(kind="preferences", dataset="demo", limit=None)), folder)
