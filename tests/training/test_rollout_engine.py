"""Where vLLM runs beside a training: which GPU, and whether it takes turns."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import method_project
import pytest
from profiles import EXACT
from pydantic import ValidationError

from tunesmith.core.errors import EngineError, ResourceError
from tunesmith.core.ready_rows import write_json
from tunesmith.models import chat, loading
from tunesmith.models.engines import environment, vllm
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.settings import Engine
from tunesmith.models.settings import Lora
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.objectives import rollout_engine
from tunesmith.training.objectives.rollout_engine import VISIBLE, Chosen

GRPO = method_project.PARAMS["grpo"]["grpo"]
CUDA = Environment(Path("/opt/vllm/bin/python"), "0.32.0", "cuda", "0" * 64, "python")
CPU = replace(CUDA, version="0.32.0+cpu", build="cpu")


def entry(**rollouts: str) -> Grpo:
    return Grpo.model_validate(GRPO | {"rollouts": {"engine": "vllm"} | rollouts})


@pytest.mark.parametrize("kind", ["full", "qlora"])
def test_weights_that_vllm_has_not_are_refused_with_a_fix(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"weights: {kind}.*set weights to lora, or rollouts.engine to transf"):
        Grpo.model_validate(GRPO | {"weights": kind, "rollouts": {"engine": "vllm"}})
    assert Grpo.model_validate(GRPO | {"weights": kind}).rollouts.engine == "transformers"


@pytest.mark.parametrize(
    ("named", "gpus"), [("0,1", ["0", "1"]), ("3, GPU-5f", ["3", "GPU-5f"]), ("", []), ("-1", []), ("2", ["2"])]
)
def test_visible_gpus_are_those_of_the_variable(named: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, named)
    assert rollout_engine.visible_gpus() == gpus


def test_without_the_variable_all_gpus_are_visible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    for address in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / address).mkdir()
    monkeypatch.setattr(rollout_engine, "NVIDIA", tmp_path)
    assert rollout_engine.visible_gpus() == ["0", "1"]


def test_an_engine_apart_has_the_last_gpu_and_the_training_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VISIBLE, "4,7")
    monkeypatch.setattr(environment, "find", lambda settings: CUDA)
    write_json(tmp_path / "params.json", {"engine": {}})
    chosen = rollout_engine.choose("grpo.grpo", entry(gpus="apart"), tmp_path / "params.json")
    assert chosen == Chosen(CUDA, Engine(), "7")
    assert os.environ[VISIBLE] == "4"
    assert not chosen.sleeps


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [([], "no GPU is visible"), (["0"], "1 GPU is visible"), (["0", "1", "2"], "3 GPUs are visible")],
)
def test_apart_takes_two_gpus(gpus: list[str], reason: str) -> None:
    with pytest.raises(ResourceError, match=rf"grpo\.grpo\.rollouts\.gpus is apart, and {reason}"):
        rollout_engine.apart(gpus, "grpo.grpo")


def test_an_engine_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "find", lambda settings: None)
    write_json(tmp_path / "params.json", {"engine": {}})
    with pytest.raises(EngineError, match=r"(?s)grpo\.grpo\.rollouts\.engine is vllm.*tunesmith engine install"):
        rollout_engine.choose("grpo.grpo", entry(), tmp_path / "params.json")
    assert rollout_engine.choose("grpo.grpo", entry(engine="transformers"), tmp_path / "absent.json") is None


@pytest.mark.parametrize(
    ("chosen", "sleeps"),
    [
        (Chosen(CUDA, Engine(), None), True),
        (Chosen(CUDA, Engine(), "1"), False),
        (Chosen(CPU, Engine(), None), False),
        (Chosen(replace(CUDA, origin="address", python=None), Engine(), None), False),
    ],
)
def test_only_an_engine_of_ours_on_the_same_gpu_sleeps(chosen: Chosen, sleeps: bool) -> None:
    assert chosen.sleeps is sleeps


@pytest.mark.parametrize(
    ("found", "gpu", "more", "variables"),
    [
        (CUDA, None, ("--enable-sleep-mode",), {"VLLM_SERVER_DEV_MODE": "1"}),
        (CUDA, "1", (), {"CUDA_VISIBLE_DEVICES": "1"}),
        (CPU, None, (), {}),
    ],
)
def test_the_server_is_started_for_one_adapter_and_for_the_longest_answer(
    found: Environment,
    gpu: str | None,
    more: tuple[str, ...],
    variables: dict[str, str],
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: dict[str, Any] = {}

    @contextmanager
    def running(_: Environment, settings: Engine, weights: Path, **options: Any) -> Iterator[vllm.Server]:
        started.update(options, settings=settings, weights=weights)
        yield vllm.Server(None, "weights")  # type: ignore[arg-type]  # is not asked

    monkeypatch.setattr(vllm, "running", running)
    policy = loading.open_policy(tiny_base, tiny_base, EXACT, "lora", Lora(rank=2, alpha=4))
    rows = [{"id": "1", "prompt": [{"role": "user", "content": "What is 2 + 2?"}]}]
    longer = [{"id": "2", "prompt": [{"role": "user", "content": "What is 2 + 2?" * 20}]}]
    with rollout_engine.opened(Chosen(found, Engine(), gpu), policy, entry(), "grpo.grpo", rows, longer):
        pass
    assert (started["weights"], started["dtype"]) == (tiny_base, "float32")
    assert (started["more"], started["variables"]) == (more, variables)
    assert (started["adapters"].count, started["adapters"].rank) == (1, 2)
    prompt = chat.encode_prompt(policy.tokenizer, longer[0]["prompt"])  # type: ignore[arg-type]
    assert started["settings"].max_model_len == len(prompt) + entry().max_new_tokens + 1
