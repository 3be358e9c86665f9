"""Suites whose prompts have images, asked of tiny models that read them; texts are asked as of any other model."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_vision
from profiles import EXACT
from tiny_vision import ask, say

from tunesmith.core.errors import ChatError, EvaluationError
from tunesmith.core.ready_rows import Row, Sample
from tunesmith.evaluation import evaluate, grading
from tunesmith.evaluation.engines import served
from tunesmith.evaluation.engines.asked import InProcess
from tunesmith.evaluation.evaluate import SuiteRows
from tunesmith.evaluation.harness import tasks
from tunesmith.evaluation.suites import Answers, Evaluate, LmEvalTask, Perplexity, Preferences, Suite
from tunesmith.models import device, generation, loading
from tunesmith.models.engines.settings import Engine
from tunesmith.models.loading import OpenModel

COLORS = ("red", "blue", "green", "yellow")
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: label
"""
KINDS = {
    "generation": "output_type: generate_until\ngeneration_kwargs: {max_gen_toks: 4, until: ['.']}\n"
    "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n",
    "choice": "output_type: multiple_choice\ndoc_to_choice: ['no', 'yes']\n"
    "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n",
}


@pytest.fixture(scope="module", params=["idefics3", "qwen2_5_vl"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    tiny_vision.draw(folder / "ready" / "shapes" / "images", COLORS)
    return tiny_vision.fetch(request.param, folder / "published", folder / "base")


@pytest.fixture
def opened(base: Path) -> OpenModel:
    return loading.open_model(base, base, EXACT, images=[base.parent / "ready" / "shapes" / "images"])


@pytest.fixture
def rows(base: Path) -> list[Row]:
    """Rows with an image each, all of one size, and one of text."""
    images = tiny_vision.draw(base.parent / "ready" / "shapes" / "images", COLORS)
    seen: list[Row] = [
        {"id": color, "prompt": ask(image), "completion": say(color), "chosen": say(color), "rejected": say("none")}
        for color, image in zip(COLORS, images, strict=True)
    ]
    return [*seen, {**seen[0], "id": "text", "prompt": [{"role": "user", "content": "Say red."}]}]


def asked(opened: OpenModel, suite: Suite, rows: list[Row], at_once: int = 2) -> list[Sample]:
    return evaluate.ask(SuiteRows("shapes", suite, rows), InProcess(opened, at_once))


def suite() -> Answers:
    return Answers(dataset="shapes", verifier="exact", max_new_tokens=6)


def exchanged(rows: list[Row]) -> list[Row]:
    """The rows, with the image of another."""
    return [{**row, "prompt": other["prompt"]} for row, other in zip(rows[:4], [*rows[1:4], rows[0]], strict=True)]


def test_answers_are_those_of_generation_and_follow_the_image(opened: OpenModel, rows: list[Row]) -> None:
    samples = asked(opened, suite(), rows)
    expected = generation.answer(opened.model, opened.tokenizer, rows, max_new_tokens=6, special_tokens=False)
    assert [sample["completion"] for sample in samples] == expected
    assert len({*expected}) >= 3
    moved = asked(opened, suite(), exchanged(rows))
    assert [sample["completion"] for sample in moved] == [*expected[1:4], expected[0]]
    assert all(0 < (sample["tokens"] or 0) <= 6 for sample in samples)


def test_prompts_that_differ_in_their_image_alone_have_other_digests(opened: OpenModel, rows: list[Row]) -> None:
    samples = asked(opened, suite(), rows)
    assert len({sample["rendered"] for sample in samples}) == len(rows)
    digests = {grading.prompts_digest(asked(opened, suite(), each)) for each in (rows[:4], exchanged(rows))}
    assert len(digests) == 2


@pytest.mark.parametrize("kind", [Preferences, Perplexity])
def test_likelihoods_are_of_the_image_and_the_same_in_any_batches(
    opened: OpenModel, rows: list[Row], kind: type[Preferences | Perplexity]
) -> None:
    once = asked(opened, kind(dataset="shapes"), rows, 5)
    each = asked(opened, kind(dataset="shapes"), rows, 1)
    assert [sample["reason"] for sample in once] == [sample["reason"] for sample in each]
    other = asked(opened, kind(dataset="shapes"), exchanged(rows))
    assert [sample["reason"] for sample in other] != [sample["reason"] for sample in once[:4]]


def test_a_suite_of_text_is_asked_as_of_a_base_of_text(opened: OpenModel, rows: list[Row]) -> None:
    texts: list[Row] = [{**rows[4], "prompt": [{"role": "user", "content": f"Say {color}."}]} for color in COLORS]
    asked(opened, suite(), rows)  # whose positions a model may keep
    found = asked(opened, suite(), texts)
    expected = generation.answer(opened.model, opened.tokenizer, texts, max_new_tokens=6, special_tokens=False)
    assert [sample["completion"] for sample in found] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_of_lm_eval_are_asked_as_texts(opened: OpenModel, rows: list[Row], tmp_path: Path, kind: str) -> None:
    lines = [{"question": f"Is {number} more than 1?", "label": int(number > 1)} for number in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "task.yaml").write_text(TASK.format(name=kind, rows=tmp_path / "rows.jsonl") + KINDS[kind])
    settings = LmEvalTask(task=str(tmp_path / "task.yaml"), chat=True)
    task = SuiteRows("task", settings, [], tasks.load("task", settings))
    first = evaluate.ask(task, InProcess(opened, 2))
    assert "Is 1 more than 1?" in first[1]["row"]["prompt"][0]["content"]
    assert {sample["status"] for sample in first} == {"scored"}
    asked(opened, suite(), rows)
    assert evaluate.ask(task, InProcess(opened, 1)) == first


def test_the_folders_are_those_of_suites_with_images_alone(rows: list[Row]) -> None:
    suites = [SuiteRows("a", suite(), rows), SuiteRows("b", suite(), rows), SuiteRows("c", suite(), rows[4:])]
    assert evaluate.image_folders(suites, Path("ready")) == [Path("ready/shapes/images")]
    assert evaluate.image_folders(suites[2:], Path("ready")) == []


def test_a_base_of_text_says_that_it_cannot_read_them(tiny_base: Path, rows: list[Row]) -> None:
    opened = loading.open_model(tiny_base, tiny_base, EXACT)
    with pytest.raises(ChatError, match="the base reads text alone, and a row has images"):
        asked(opened, suite(), rows)


def test_vllm_is_not_sent_tokens_of_images(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    installed: Any = object()
    monkeypatch.setattr(served.environment, "find", lambda engine: installed)
    gpu = device.Profile("cuda", "a GPU", EXACT.dtype)
    with pytest.raises(EvaluationError, match=r"evaluate\.suites\.shapes: its prompts have images"):
        served.choose(Evaluate(engine="vllm"), Engine(), [], gpu, ["shapes"])
    assert served.choose(Evaluate(), Engine(), [], gpu, ["shapes"]) is None
    assert "transformers answers for all models: evaluate.suites.shapes" in capsys.readouterr().out
    assert served.choose(Evaluate(), Engine(), [], gpu) is installed
