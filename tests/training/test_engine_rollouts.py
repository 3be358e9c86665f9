"""GRPO and RLHF with completions by vLLM: a server over HTTP that answers as vLLM does, by a tiny model."""

import shutil
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import fake_vllm
import method_project
import pytest
import torch
from fake_vllm import FakeVllm, Fault
from profiles import EXACT
from safetensors.torch import load_file

from stages import train_grpo, train_reward, train_rlhf, train_sft
from tunesmith.core import checkpoints, journal, layout, lineage
from tunesmith.core.errors import EngineError, ParamsError, TrainingError
from tunesmith.models import chat, device, generation, loading
from tunesmith.models.engines.client import Client
from tunesmith.models.engines.vllm import Server
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import token_log_probs
from tunesmith.models.settings import Lora
from tunesmith.training.objectives import adapter_proof, rlhf, rollout_engine
from tunesmith.training.objectives.adapter_proof import AdapterProof
from tunesmith.training.objectives.engine_policy import EnginePolicy
from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Verifier

ENTRIES = {"grpo": {"rewards": {"number": 1.0}}, "rlhf": {"reward": "reward", "verifier": "number"}}
STAGES = {"grpo": train_grpo, "rlhf": train_rlhf}
ROWS = [{"id": str(n), "prompt": [{"role": "user", "content": f"What is {n} + 11?"}]} for n in range(3, 7)]
LOAD, UNLOAD, ASK = "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/completions"


@pytest.fixture(scope="module")
def started(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a policy and a reward model. Not to be written to."""
    folder = method_project.make(tmp_path_factory.mktemp("engine") / "project", tiny_base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train_sft.main("sft-lora")
        train_reward.main("reward")
    return folder


@pytest.fixture
def project(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to train in, by float32, in which the engines differ by less than any two adapters."""
    folder = tmp_path / "project"
    shutil.copytree(started, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setitem(catalog.VERIFIERS, "number", Verifier(method_project.parity))
    monkeypatch.setattr(device, "detect", lambda: EXACT)
    return folder


def train(project: Path, server: FakeVllm, objective: str, **changes: Any) -> Path:
    """The folder of a model that was trained with completions of ``server``."""
    with fake_vllm.serving(server) as address:
        return train_at(address, project, objective, **changes)


def train_at(address: str, project: Path, objective: str, **changes: Any) -> Path:
    """The folder of a model that was trained with completions of the server at ``address``."""
    entry = method_project.ONLINE | ENTRIES[objective] | {"rollouts": {"engine": "vllm"}} | changes
    params = method_project.PARAMS | {"engine": {"address": address}, objective: {objective: entry}}
    method_project.write_params(project, params)
    STAGES[objective].main(objective)
    return project / "models" / objective


def steps(out: Path) -> list[dict[str, Any]]:
    return journal.steps(journal.read(out / journal.NAME))


@pytest.mark.parametrize("objective", ["grpo", "rlhf"])
def test_each_step_asks_an_adapter_of_its_own(project: Path, objective: str) -> None:
    server = FakeVllm(project / "models" / "base")
    out = train(project, server, objective)
    loaded = [name for path, name in server.asked if path == LOAD]
    unloaded = [name for path, name in server.asked if path == UNLOAD]
    assert len(loaded) == 5, "for the start and each of four steps"
    assert len({*loaded}) == 5
    assert unloaded == loaded
    for name in loaded:  # from its load to its end, nothing else is asked
        first, last = server.asked.index((LOAD, name)), server.asked.index((UNLOAD, name))
        assert set(server.asked[first + 1 : last]) == {(ASK, name)}
    assert not any(folder.exists() for folder in server.folders)
    assert all(step["drift"] < 1e-4 for step in steps(out))


def test_the_journal_and_the_lineage_have_the_engine(project: Path) -> None:
    with fake_vllm.serving(FakeVllm(project / "models" / "base")) as address:
        out = train_at(address, project, "grpo")
    expected = {
        "origin": "address",
        "version": "0.0.0+cpu",
        "build": "cpu",
        "lock_digest": None,
        "dtype": "float32",
        "settings": {"address": address, "batch_invariant": False, "max_model_len": None, "args": []},
    }
    assert lineage.read(out)["engine"] == expected
    assert journal.first(journal.read(out / journal.NAME), "start")["engine"] == expected


def test_greedy_answers_of_both_engines_get_the_same_score(project: Path) -> None:
    scores = []
    for engine in ("vllm", "transformers"):
        out = train(project, FakeVllm(project / "models" / "base"), "grpo", rollouts={"engine": engine})
        events = journal.read(out / journal.NAME)
        scores.append(next(event["score"] for event in events if event["event"] == "validation"))
    assert scores[0] == scores[1]


FAULTS: list[tuple[Fault, int, str]] = [
    ("base", 0, "as 'the weights alone' does"),
    ("base", 1, "as 'the weights alone' does"),
    ("base", 2, "as 'the weights alone' does"),
    ("absent", 0, "no "),
    ("absent", 2, "no "),
    ("stale", 1, "as 'the start' does"),
    ("stale", 2, "as 'the start' does"),
    ("other engine", 0, "as no model here does"),
]
"""A fault, the adapters that are loaded well before it, and what the error says."""


@pytest.mark.parametrize(("fault", "after", "reason"), FAULTS)
def test_another_model_is_noticed_before_an_answer_counts(project: Path, fault: Fault, after: int, reason: str) -> None:
    server = FakeVllm(project / "models" / "base", fault, after=after)
    with pytest.raises(EngineError, match=reason):
        train(project, server, "grpo", steps=3)
    name = [name for path, name in server.asked if path == LOAD][-1]
    assert server.asked.count((ASK, name)) == 1, "the request of the proof"
    assert not (project / "models" / "grpo").exists()
    assert server.asked[-1] == (UNLOAD, name), "nothing is left on a server that others share"


def test_the_adapter_of_the_step_before_is_noticed_where_no_distance_tells_it(project: Path) -> None:
    policy = opened(project)
    proof = AdapterProof(policy, adapter_proof.conversations(policy, ROWS))

    def by_engine() -> list[list[float]]:
        """Log-probabilities by an engine that rounds a hundred times as coarsely as a step moves them."""
        exact = token_log_probs(policy, proof.sequences, batch_size=4)
        return [[round(value, 1) for value in row] for row in exact]

    move(policy, 0.2)  # away from the start
    before = by_engine()
    proof.check(before)
    move(policy, 1e-2)
    with pytest.raises(EngineError, match="as it did before this step"):
        proof.check(before)
    proof.check(by_engine())


def test_a_training_that_the_engine_ended_goes_on_as_if_it_had_not(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeVllm(project / "models" / "base")
    with fake_vllm.serving(server) as address:
        out = train_at(address, project, "grpo", steps=4)
        whole, drawn = load_file(out / "adapter_model.safetensors"), [step["score"] for step in steps(out)]
        shutil.rmtree(out)
        monkeypatch.setenv(layout.CHECKPOINT_VARIABLE, "0")
        server.fault, server.after = "absent", server.loads + 3
        with pytest.raises(EngineError, match="no "):
            train_at(address, project, "grpo", steps=4)
        server.fault = None
        train_at(address, project, "grpo", steps=4)
    resumed = [event for event in journal.read(out / journal.NAME) if event["event"] == "resume"]
    assert [(event["step"], event["exact"]) for event in resumed] == [(2, False)]
    assert [step["score"] for step in steps(out)] == drawn
    again = load_file(out / "adapter_model.safetensors")
    assert all(torch.allclose(again[name], values, atol=1e-4) for name, values in whole.items()), "but for rounding"


def test_the_key_of_checkpoints_has_the_engine(project: Path) -> None:
    origin = lineage.read(train(project, FakeVllm(project / "models" / "base"), "grpo"))
    other: Any = origin | {"engine": {**origin["engine"], "version": "0.0.1"}}
    assert checkpoints.key(origin) != checkpoints.key(other)


@pytest.mark.parametrize("objective", ["grpo", "rlhf"])
def test_an_engine_that_drifts_stops_the_training(project: Path, objective: str) -> None:
    bounded = {"engine": "vllm", "max_drift": 1e-12}
    with pytest.raises(TrainingError, match=r"step 3 .*rollouts\.max_drift"):
        train(project, FakeVllm(project / "models" / "base"), objective, steps=4, rollouts=bounded)


def test_trl_weighs_the_loss_by_the_ratio(project: Path) -> None:
    logged = steps(train(project, FakeVllm(project / "models" / "base"), "grpo"))
    assert all(step["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=1e-4) for step in logged)


def test_rloo_weighs_an_answer_by_its_own_ratio(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratios, drift = rlhf.truncated_ratios(
        torch.tensor([[-1.0, -2.0, -9.0], [-1.0, -1.0, -1.0]]), [[-1.5, -1.5], [-2.0, -2.0, -2.0]], 2.0
    )
    assert ratios.tolist() == pytest.approx([1.0, 2.0]), "the padding does not count, and e³ is cut"
    assert drift == pytest.approx((0.5 + 0.5 + 3 * 1.0) / 5)
    monkeypatch.setattr(rlhf, "truncated_ratios", lambda policy, *_: (torch.zeros(len(policy)), 0.0))
    with pytest.raises(TrainingError, match=r"0 of the \d+ tensors that were trained changed"):
        train(project, FakeVllm(project / "models" / "base"), "rlhf")


def opened(project: Path) -> OpenModel:
    base = project / "models" / "base"
    return loading.open_policy(project / "models" / "sft-lora", base, EXACT, "lora", Lora())


def move(policy: OpenModel, by: float) -> None:
    """Change the adapter as a step does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter += by * torch.randn(parameter.shape, generator=generator)


def test_an_engine_on_the_same_gpu_sleeps_whenever_it_has_answered(project: Path, tmp_path: Path) -> None:
    policy, server = opened(project), FakeVllm(project / "models" / "base")
    proof = AdapterProof(policy, adapter_proof.conversations(policy, ROWS))
    with fake_vllm.serving(server) as address, closing(Client(address=address)) as client:
        engine = EnginePolicy(Server(client, "weights"), policy, proof, tmp_path, seed=1, sleeps=True)
        first = engine.greedy([[1, 5, 9]], max_new_tokens=2)
        again = engine.greedy([[1, 5, 9]], max_new_tokens=2)
        move(policy, 0.1)
        engine.greedy([[1, 5, 9]], max_new_tokens=2)
    assert first == again
    assert server.asleep
    assert [path for path, _ in server.asked] == [
        *(LOAD, ASK, ASK, "/sleep"),
        *("/wake_up", ASK, ASK, "/sleep"),
        *("/wake_up", UNLOAD, LOAD, ASK, ASK, "/sleep"),
    ], "each time the proof and the prompt"


def test_draws_differ_by_step_and_prompt_and_repeat(project: Path, tmp_path: Path) -> None:
    policy, server = opened(project), FakeVllm(project / "models" / "base")
    proof = AdapterProof(policy, adapter_proof.conversations(policy, ROWS))
    prompt = chat.encode_prompt(policy.tokenizer, ROWS[0]["prompt"])
    with fake_vllm.serving(server) as address, closing(Client(address=address)) as client:
        engine = EnginePolicy(Server(client, "weights"), policy, proof, tmp_path, seed=1, sleeps=False)

        def draw(number: int) -> list[list[int]]:
            drawn = engine.sample([prompt] * 2, draw=number, max_new_tokens=8, temperature=1.0)
            return [answer.tokens for answer in drawn]

        first, second = draw(1), draw(2)
        assert draw(1) == first
    assert all(one != other for one, other in pairwise([*first, *second]))
    assert set(engine.stop_tokens) == {*generation.end_tokens(policy.model, policy.tokenizer)}


def test_an_adapter_that_vllm_cannot_serve_is_refused(project: Path) -> None:
    base = project / "models" / "base"
    policy = loading.open_policy(base, base, EXACT, "lora", Lora(rank=2, alpha=4, dora=True))
    with pytest.raises(ParamsError, match=r"grpo\.grpo\.rollouts\.engine: .*use_dora"):
        rollout_engine.check_adapter("grpo.grpo", policy)
