"""vLLM evaluates as transformers does, and no answer counts that another model than the named one gave."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adapters
import fake_vllm
import method_project
import pytest
import torch
import yaml
from fake_vllm import FakeVllm, Fault
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from profiles import EXACT

from stages import compare as compare_stage
from stages import evaluate as stage
from tunesmith.core import files, fingerprint, manifest, ready_rows
from tunesmith.core.errors import EngineError, EvaluationError, IntegrityError, TunesmithError
from tunesmith.evaluation import comparison, differences, grading
from tunesmith.evaluation.engines import served
from tunesmith.evaluation.engines.asked import Served
from tunesmith.evaluation.harness.on_vllm import VllmLM
from tunesmith.evaluation.suites import Evaluate
from tunesmith.models import device, loading
from tunesmith.models.engines import identity
from tunesmith.models.engines.client import Client
from tunesmith.models.engines.settings import Engine
from tunesmith.models.loading import OpenModel
from tunesmith.planning import model_shape

SUITES: dict[str, Any] = {
    "arithmetic": {"dataset": "answers", "verifier": "number", "max_new_tokens": 4},
    "pairs": {"kind": "preferences", "dataset": "pairs"},
    "likely": {"kind": "perplexity", "dataset": "answers"},
    "chosen": {"task": "data/tasks/choice.yaml"},
    "written": {"task": "data/tasks/generation.yaml"},
}
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
doc_to_text: "What is {{{{sum}}}}?"
doc_to_target: {target}
output_type: {kind}
"""
MODELS = {"first": 1.0, "second": 2.0}
"""The adapters, and the scale of their random weights."""


@pytest.fixture(scope="module")
def whole(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two adapters and a task of lm-eval of each kind."""
    project = tmp_path_factory.mktemp("served") / "project"
    params = {
        "sft": dict.fromkeys(MODELS, method_project.PARAMS["sft"]["sft-lora"]),
        "evaluate": {"suites": SUITES, "noise_batch_size": 2, "engine": "vllm"},
    }
    method_project.make(project, tiny_base, params)
    for name, scale in MODELS.items():
        adapters.write(project / "models" / name, project / "models" / "base", scale=scale)
    tasks = project / "data" / "tasks"
    rows = [{"sum": f"{a} + 1", "label": int(a > 2)} for a in range(4)]
    ready_rows.write_jsonl(tasks / "rows.jsonl", rows)
    for name, kind, target in (
        ("choice", "multiple_choice", "label\ndoc_to_choice: [one, two]"),
        ("generation", "generate_until", "label\ngeneration_kwargs: {max_gen_toks: 5, until: [zz]}"),
    ):
        (tasks / f"{name}.yaml").write_text(TASK.format(name=name, rows=tasks / "rows.jsonl", kind=kind, target=target))
    files.write_text(project / fingerprint.FOLDER / "evaluate", "code of a test\n")
    return project


@pytest.fixture
def project(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(whole, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(device, "detect", lambda: EXACT)
    return tmp_path / "project"


@pytest.fixture
def asked_of(project: Path) -> Iterator[Callable[..., FakeVllm]]:
    """Make the project's engine a server, which ends with the test."""
    with fake_vllm.several() as start:

        def make(fault: Fault | None = None, *, after: int = 1) -> FakeVllm:
            server = FakeVllm(project / "models" / "base", fault, after=after)
            change(project, engine={"address": start(server)})
            return server

        yield make


@pytest.fixture
def client(project: Path) -> Iterator[Callable[[], Client]]:
    """Make a client of the project's engine, which is closed after the test."""
    made = list[Client]()

    def make() -> Client:
        made.append(Client(address=yaml.safe_load((project / "params.yaml").read_text())["engine"]["address"]))
        return made[-1]

    yield make
    for each in made:
        each.close()


def opened_base() -> OpenModel:
    return loading.open_model(Path("models/base"), Path("models/base"), EXACT)


def change(project: Path, **sections: dict[str, Any]) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    for name, values in sections.items():
        params[name] = params.get(name, {}) | values
    method_project.write_params(project, params)


def samples(name: str) -> list[dict[str, Any]]:
    found = ready_rows.read_samples(Path("reports/evaluation") / name / "samples.jsonl")
    return [{**sample, "score": pytest.approx(sample["score"], abs=1e-4)} for sample in found]


def test_every_kind_of_suite_is_answered_as_by_transformers(project: Path, asked_of: Callable[..., FakeVllm]) -> None:
    asked_of()
    assert "3 models evaluated by vLLM 0.0.0+cpu" in stage.main([])
    assert "3 kept" in stage.main([])
    by_vllm = {name: samples(name) for name in ("base", *MODELS)}
    metrics = json.loads(Path("reports/evaluation/second/metrics.json").read_text())
    assert metrics["disagreement"] < 1e-4
    change(project, evaluate={"engine": "transformers"})
    assert "3 models evaluated by transformers" in stage.main([])
    for name, answered in by_vllm.items():
        assert answered == samples(name)
    assert by_vllm["base"] != by_vllm["first"] != by_vllm["second"]


def test_the_noise_of_vllm_is_measured_on_vllm(project: Path, asked_of: Callable[..., FakeVllm]) -> None:
    asked_of()
    stage.main(["base"])
    repeats = ready_rows.read_repeats(stage.REPEATS)
    assert {repeat["batch_size"] for repeat in repeats} == {256, 2}
    assert len(repeats) == 2 * len(samples("base"))


def damage(project: Path) -> None:
    weights = project / "models" / "second" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def change_base(project: Path) -> None:
    other = adapters.write_full(project / "other" / "base", project / "models" / "base")
    shutil.rmtree(project / "models" / "second")
    adapters.write(project / "models" / "second", other)


REFUSED: dict[str, tuple[Fault | None, Callable[[Path], None] | None, type[TunesmithError], str]] = {
    "another adapter answers": ("stale", None, EngineError, "answers to 'second' as 'first' does"),
    "the base answers": ("base", None, EngineError, "answers to 'second' as 'base' does"),
    "no known model answers": ("other engine", None, EngineError, "as no model here does"),
    "the adapter was not loaded": ("absent", None, EngineError, "no second-"),
    "a half-written folder": (None, damage, IntegrityError, "adapter_model.safetensors"),
    "an adapter of another base": (None, change_base, IntegrityError, "trained on a base with weights"),
}


@pytest.mark.parametrize(("fault", "spoil", "error", "reason"), REFUSED.values(), ids=REFUSED)
def test_no_answer_of_another_model_counts(
    project: Path,
    asked_of: Callable[..., FakeVllm],
    fault: Fault | None,
    spoil: Callable[[Path], None] | None,
    error: type[TunesmithError],
    reason: str,
) -> None:
    server = asked_of(fault)
    if spoil:
        spoil(project)
    with pytest.raises(error, match=reason):
        stage.main([])
    assert not list(Path("reports/evaluation").glob("*/metrics.json"))
    assert server.generated == 0


def test_texts_longer_than_the_context_are_scored_to_the_last_token(
    project: Path, asked_of: Callable[..., FakeVllm], client: Callable[[], Client]
) -> None:
    asked_of()
    opened = opened_base()
    for context in (16, 17, 400):
        lm = VllmLM(client(), "weights", opened.tokenizer, context, 256)
        text = "What is 12 + 34? user 46 " * 6
        [ours] = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", doc={}, arguments=(text,), idx=0)])
        here = HFLM(pretrained=opened.model, tokenizer=opened.tokenizer, batch_size=1, max_length=context - 2)
        [theirs] = here.loglikelihood_rolling([Instance("loglikelihood_rolling", doc={}, arguments=(text,), idx=0)])
        assert ours == pytest.approx(theirs, abs=1e-3)


def test_of_two_likeliest_tokens_either_is_likeliest(
    project: Path,
    asked_of: Callable[..., FakeVllm],
    client: Callable[[], Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = asked_of()
    monkeypatch.setattr(server, "_logits", lambda tokens: torch.zeros(len(tokens), 300))
    [scored] = client().score("weights", [[5, 6, 7]])
    assert [token.likeliest for token in scored] == [True, True]


def test_a_long_prompt_that_all_rows_share_does_not_hide_the_adapter(
    project: Path, asked_of: Callable[..., FakeVllm]
) -> None:
    path = Path("data/ready/answers/test.jsonl")
    rows = ready_rows.read(path)
    for row in rows:
        row["prompt"].insert(0, {"role": "system", "content": "user " * 300})
    ready_rows.write_jsonl(path, rows)
    sequences = [served._tokens(opened_base(), row) for row in identity.conversations(rows)]
    assert len({tuple(sequence) for sequence in sequences}) == identity.SEQUENCES
    assert {len(sequence) for sequence in sequences} == {identity.TOKENS}


def test_answers_are_graded_in_the_main_thread(
    project: Path, asked_of: Callable[..., FakeVllm], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of()
    threads, grade = list[threading.Thread](), grading.grade

    def note(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return grade(*arguments)

    monkeypatch.setattr(grading, "grade", note)  # alarms, which libraries of graders set, work there alone
    stage.main([])
    assert set(threads) == {threading.main_thread()}


def test_an_error_ends_the_evaluation_at_once(
    project: Path, asked_of: Callable[..., FakeVllm], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, answered, answering = asked_of(), list[str](), threading.Event()

    def complete(self: Served, *_: Any) -> Any:
        answering.wait(120)  # as a server that is busy for hours
        answered.append(self.name)
        raise EngineError("the server is gone", fix="none")

    def fail(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Served, "complete", complete)
    monkeypatch.setattr(Served, "log_probs", fail)
    change(project, evaluate={"suites": {name: SUITES[name] for name in ("pairs", "arithmetic")}})
    with pytest.raises(KeyboardInterrupt):
        stage.main([])
    assert not answered
    answering.set()
    assert not list(Path("reports/evaluation").glob("*/metrics.json"))
    assert {path for path, _ in server.asked} >= {"/v1/unload_lora_adapter"}


def test_models_of_two_engines_are_not_compared(project: Path, asked_of: Callable[..., FakeVllm]) -> None:
    asked_of()
    stage.main([])
    change(project, evaluate={"engine": "transformers"})
    stage.main(["second"])
    shape = model_shape.read("models/base")
    evaluated = [compare_stage.open_evaluated(name, shape) for name in ("base", *MODELS)]
    with pytest.raises(EvaluationError, match=r"second was evaluated with another engine \(transformers, not vLLM"):
        comparison.compare(evaluated, [], differences.Compare(resamples=200))


def test_the_engine_is_chosen_for_all_models_alike(
    project: Path, asked_of: Callable[..., FakeVllm], capsys: pytest.CaptureFixture[str]
) -> None:
    asked_of()
    engine = Engine(**yaml.safe_load(Path("params.yaml").read_text())["engine"])
    folders = [Path("models") / name for name in MODELS]
    gpu = device.Profile("cuda", "a GPU", EXACT.dtype)

    def chosen(wanted: str, profile: device.Profile) -> str | None:
        found = served.choose(Evaluate(engine=wanted), engine, folders, profile)
        return found and found.version

    assert chosen("auto", EXACT) is None
    assert chosen("transformers", gpu) is None
    assert chosen("auto", gpu) == chosen("vllm", EXACT) == "0.0.0+cpu"
    adapters.edit(folders[1], "adapter_config.json", use_dora=True)
    manifest.write(folders[1])
    with pytest.raises(EvaluationError, match="models/second: vLLM cannot serve this adapter: it is a variant of LoRA"):
        chosen("vllm", gpu)
    assert chosen("auto", gpu) is None
    assert "transformers answers for all models" in capsys.readouterr().out


def test_without_vllm_the_error_says_how_to_install_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(project / "nothing"))
    with pytest.raises(EngineError, match=r"no vLLM is installed\n  fix: .*tunesmith engine install"):
        stage.main([])
