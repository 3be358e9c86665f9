"""Tasks of lm-eval, in YAML files and by name, without a network."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import nltk
import pytest
from datasets.naming import camelcase_to_snakecase
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from profiles import EXACT

from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Sample
from tunesmith.evaluation import evaluate, grading
from tunesmith.evaluation.engines.asked import InProcess
from tunesmith.evaluation.harness import scores
from tunesmith.evaluation.harness import tasks as harness_tasks
from tunesmith.evaluation.suites import Answers, Evaluate, LmEvalTask, Preferences
from tunesmith.models import loading
from tunesmith.models.loading import OpenModel

COMMON = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
CHOICE = """
output_type: multiple_choice
doc_to_choice: ["no", "yes"]
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: f1, aggregation: f1, higher_is_better: true}
  - {metric: brier_score, aggregation: brier_score, higher_is_better: false}
"""
GENERATION = """
output_type: generate_until
doc_to_target: label
generation_kwargs: {max_gen_toks: 4, until: ["."]}
filter_list:
  - {name: whole, filter: [{function: take_first}]}
  - {name: letter, filter: [{function: regex, regex_pattern: "([a-z])"}, {function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
  - {metric: chrf, aggregation: chrf, higher_is_better: true}
"""
TEXT = """
output_type: loglikelihood_rolling
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}]
"""
TASKS = {"choice": CHOICE, "other": CHOICE, "generation": GENERATION, "text": TEXT}


@pytest.fixture(scope="module")
def opened(tiny_base: Path) -> OpenModel:
    return loading.open_model(tiny_base, tiny_base, EXACT)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tasks over six rows, and a group of two of them."""
    folder = tmp_path_factory.mktemp("tasks")
    lines = [{"question": f"Is {a} more than 3?", "label": int(a > 3)} for a in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, rest in TASKS.items():
        (folder / f"{name}.yaml").write_text(COMMON.format(name=name, rows=folder / "rows.jsonl") + rest)
    aggregate = "aggregate_metric_list: [{metric: brier_score, weight_by_size: true}]"
    (folder / "both.yaml").write_text(f"group: both\ntask: [choice, other]\n{aggregate}\n")
    return folder


def ask(opened: OpenModel, task: str, **params: Any) -> tuple[str | None, list[Sample]]:
    """The score's name and the samples of a suite."""
    suite = LmEvalTask(task=task, **params)
    rows = evaluate.SuiteRows("suite", suite, [], harness_tasks.load("suite", suite))
    return rows.metric, evaluate.ask(rows, InProcess(opened, 2))


def reported(opened: OpenModel, tasks: Path, name: str) -> dict[str, float]:
    """The metrics that lm-eval itself reports of a task or group."""
    lm = HFLM(pretrained=opened.model, tokenizer=opened.tokenizer, batch_size=3)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    results = lm_eval.evaluator.evaluate(lm, manager.load([name]), bootstrap_iters=0)
    assert results is not None
    found: dict[str, float] = results["results"][name]
    return found


def test_a_task_scores_as_lm_evals_command_line_does(opened: OpenModel, tasks: Path) -> None:
    metric, samples = ask(opened, str(tasks / "choice.yaml"))
    assert metric == "acc"  # the task's first
    assert grading.summarize(samples)["score"] == reported(opened, tasks, "choice")["acc,none"]
    assert samples[2]["row"]["prompt"][0]["content"] == "Is 2 more than 3?"
    assert [sample["row"]["id"] for sample in samples] == [f"suite-{number}" for number in range(6)]


def test_a_group_is_one_suite_whose_prompts_name_their_task(opened: OpenModel, tasks: Path) -> None:
    by_file = ask(opened, str(tasks / "both.yaml"))
    by_name = ask(opened, "both", include_path=tasks)
    assert by_file == by_name
    metric, samples = by_name
    assert metric == "negative brier_score"  # which the group names first, and of which less is better
    assert grading.summarize(samples)["score"] == pytest.approx(-reported(opened, tasks, "both")["brier_score,none"])
    assert [sample["row"]["task"] for sample in samples] == ["choice"] * 6 + ["other"] * 6
    assert len({sample["row"]["id"] for sample in samples}) == 12


def test_generated_answers_are_read_by_the_named_filter(opened: OpenModel, tasks: Path) -> None:
    _, whole = ask(opened, str(tasks / "generation.yaml"))
    _, letter = ask(opened, "generation", include_path=tasks, filter="letter", limit=3)
    assert len(letter) == 3
    assert all(
        answer["completion"] in ("[invalid]", *one["completion"]) for answer, one in zip(letter, whole[:3], strict=True)
    )
    # a chat model is asked in its template where it generates, and as it is told
    assert all("Is 0 more" in one["row"]["prompt"][0]["content"] != "Is 0 more than 3?" for one in whole[:1])
    _, plain = ask(opened, "generation", include_path=tasks, chat=False)
    assert plain[0]["row"]["prompt"][0]["content"] == "Is 0 more than 3?"


def test_documents_that_were_not_scored_are_an_error(
    opened: OpenModel, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scores.filtered
    monkeypatch.setattr(scores, "filtered", lambda *arguments: whole(*arguments)[1:])
    with pytest.raises(EvaluationError, match=r"suite 'suite': lm-eval scored \d of the \d documents of choice"):
        ask(opened, "choice", include_path=tasks)


def test_metrics_of_other_scales_keep_their_unit(opened: OpenModel, tasks: Path) -> None:
    metric, samples = ask(opened, "text", include_path=tasks)
    assert metric == "log-probability of a word"
    assert all(sample["score"] < 0 for sample in samples)
    words = [len(sample["row"]["reference"].split()) for sample in samples]
    total = sum(sample["score"] * count for sample, count in zip(samples, words, strict=True))
    assert math.exp(-total / sum(words)) == pytest.approx(reported(opened, tasks, "text")["word_perplexity,none"])
    metric, samples = ask(opened, "generation", include_path=tasks, metric="chrf")
    assert metric == "chrf"
    assert all(0 <= sample["score"] <= 100 for sample in samples)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"task": "choice", "metric": "f1"}, "no metric 'f1' with a value for each prompt"),
        ({"task": "choice", "metric": "doc_id"}, "no metric 'doc_id'"),
        ({"task": "choice", "filter": "strict"}, "has no filter 'strict'"),
    ],
)
def test_what_a_task_does_not_have_is_refused_with_what_it_has(
    opened: OpenModel, tasks: Path, params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(EvaluationError, match=reason) as error:
        ask(opened, include_path=tasks, **params)
    assert error.value.fix.endswith(("one of acc, brier_score", "one of none"))


def test_a_report_holds_until_what_is_asked_changes(tasks: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tasks, tmp_path / "tasks")
    for path in folder.glob("*.yaml"):
        path.write_text(path.read_text().replace(str(tasks), str(folder)))

    def digest() -> str:
        harness_tasks._index.cache_clear()
        suite = LmEvalTask(task="both", include_path=folder)
        return harness_tasks.digest(harness_tasks.load("suite", suite))

    first = digest()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "utils.pyc").touch()
    assert digest() == first
    rows = folder / "rows.jsonl"
    rows.write_text(rows.read_text().replace("Is 5", "Is five"))
    changed = digest()
    assert changed != first
    config = folder / "other.yaml"
    config.write_text(config.read_text().replace('["no", "yes"]', '["not", "yes"]'))
    assert digest() not in (first, changed)


HUB_TASK = """
task: sums
dataset_path: someone/sums
dataset_name: main
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: exact_match}]
"""


def write_cache(cache: Path, repository: str, config: str, split: str, row: dict[str, Any]) -> None:
    """Lay a data set of one row into a cache of `datasets`, as loading it from the hub does."""
    owner, name = repository.split("/")
    name = camelcase_to_snakecase(name)
    folder = cache / f"{owner}___{name}" / config / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    rows = datasets.Dataset.from_list([row])
    rows.save_to_disk(cache / "saved")
    shutil.move(next((cache / "saved").glob("*.arrow")), folder / f"{name}-{split}.arrow")
    splits = {split: {"name": split, "num_examples": 1, "dataset_name": name}}
    info = {"config_name": config, "features": rows.info.features.to_dict(), "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def test_ifeval_has_its_packages_and_asks_for_its_data_first(
    opened: OpenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kwargs = [{"num_words": None, "relation": None}]
    row = {"key": 1, "prompt": "Say hi.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": kwargs}
    write_cache(tmp_path, "google/IFEval", "default", "train", row)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(nltk, "download", lambda name: None)
    monkeypatch.setattr(nltk.data, "path", [])
    suite = {"task": "ifeval", "include_path": Path(lm_eval.__file__).parent / "tasks" / "ifeval"}
    with pytest.raises(EvaluationError, match="punkt_tab, which is not here"):
        ask(opened, **suite)
    monkeypatch.setattr(nltk.data, "find", lambda name: name)
    with pytest.raises(EvaluationError, match="answers of up to 1280 tokens, which leaves a prompt no room"):
        ask(opened, **suite)
    for metric in ("prompt_level_strict_acc", "inst_level_loose_acc"):  # the first is the default
        chosen = {} if metric.startswith("prompt") else {"metric": metric}
        loaded = harness_tasks.load("suite", LmEvalTask(**suite, **chosen))
        loaded.tasks["ifeval"].set_config("generation_kwargs", {"max_gen_toks": 6}, update=True)
        [sample] = harness_tasks.ask(loaded, harness_tasks.UncutLM(opened, 2))
        assert loaded.label == metric
        assert sample["score"] == float("," not in sample["completion"] and bool(sample["completion"].strip()))


def test_data_of_the_hub_come_from_the_cache_or_the_error_says_how_to_fill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sums.yaml").write_text(HUB_TASK)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    suite = LmEvalTask(task="sums", include_path=tmp_path)
    with pytest.raises(EvaluationError, match=r"'sums' is not on this machine, and the hub does not answer") as error:
        harness_tasks.load("suite", suite)
    assert "TaskManager(include_path=" in error.value.fix
    write_cache(tmp_path / "cache", "someone/sums", "main", "test", {"question": "1 + 1", "answer": "2"})
    assert [doc["answer"] for _, doc in harness_tasks.load("suite", suite).tasks["sums"].doc_iterator()] == ["2"]


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "?"}\n')
    (tmp_path / "utils.py").write_text("import a_package_that_nobody_has\n")
    config = COMMON.format(name="lacking", rows=tmp_path / "rows.jsonl")
    (tmp_path / "lacking.yaml").write_text(f"{config}process_results: !function utils.score\n")
    with pytest.raises(EvaluationError, match=r"needs a package that is not installed: .*a_package_that_nobody_has"):
        harness_tasks.load("suite", LmEvalTask(task=str(tmp_path / "lacking.yaml")))


def test_a_name_that_lm_eval_does_not_know_is_answered_with_those_it_does(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = harness_tasks._index(tasks, lm_evals=False)  # lm-eval's own take seconds to index
    monkeypatch.setattr(harness_tasks, "_index", lambda folder, lm_evals: only)
    with pytest.raises(EvaluationError, match="'chioce': not a task, group or tag of lm-eval's; did you mean choice"):
        harness_tasks.load("suite", LmEvalTask(task="chioce"))


def test_any_suite_may_rank_models_but_one_must_give_probes() -> None:
    answers = Answers(dataset="d", verifier="number")
    task = LmEvalTask(task="gsm8k")
    assert list(Evaluate(suites={"gsm8k": task, "own": answers}).suites) == ["gsm8k", "own"]
    with pytest.raises(ValueError, match="one suite must be of kind answers"):
        Evaluate(suites={"gsm8k": task, "liked": Preferences(dataset="d")})
