"""Every objective on every kind of weights: two steps of the real stage on a tiny model, saved, loaded and asked."""

import math
import shutil
from pathlib import Path
from typing import Any, get_args

import method_project
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from stages import reference, train_dpo, train_grpo, train_kto, train_reward, train_rlhf, train_sft
from tunesmith.cli import plan_entries
from tunesmith.core import journal, lineage, manifest, ready_rows
from tunesmith.core.errors import DataError, TrainingError
from tunesmith.core.params import WeightsKind
from tunesmith.models import device, generation, loading, weights
from tunesmith.models.log_probs import likelihoods
from tunesmith.models.settings import Lora
from tunesmith.planning import hardware, model_shape, workload
from tunesmith.project import document
from tunesmith.training import checks
from tunesmith.training import run as run_module
from tunesmith.training.entries.grpo import Grpo
from tunesmith.training.entries.sft import Sft
from tunesmith.training.objectives import reward, rollouts, sft
from tunesmith.verifiers import catalog
from tunesmith.verifiers.verdict import Verifier

KINDS = get_args(WeightsKind)
PROMPT = [{"role": "user", "content": "What is 3 + 4?"}]


def run(objective: str, kind: WeightsKind) -> Path:
    """Run the stage in the current project; the folder it wrote."""
    match objective:
        case "sft":
            train_sft.main(f"sft-{kind}")
            return Path("models") / f"sft-{kind}"
        case "dpo":
            reference.main("dpo")
            train_dpo.main("dpo")
        case "kto":
            train_kto.main("kto")
        case "reward":
            train_reward.main("reward")
        case "rlhf":
            train_rlhf.main("rlhf")
        case "grpo":
            train_grpo.main("grpo")
    return Path("models") / objective


@pytest.fixture(scope="module")
def started(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an SFT policy and a reward model. Not to be written to."""
    folder = method_project.make(tmp_path_factory.mktemp("methods") / "project", tiny_base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("sft", "lora")
        run("reward", "lora")
    return folder


@pytest.fixture
def project(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to train in."""
    folder = tmp_path / "project"
    shutil.copytree(started, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of the check of the weights: digests by name, before and after, of frozen and trained tensors."""
    seen: dict[str, Any] = {}
    check = checks.check_weights_moved

    def spy(kind: WeightsKind, frozen: Any, trained: Any) -> None:
        seen.update(frozen=frozen, trained=trained)
        check(kind, frozen, trained)

    monkeypatch.setattr(checks, "check_weights_moved", spy)
    return seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objective", ["sft", "dpo", "kto", "reward", "rlhf", "grpo"])
def test_only_trained_weights_move_and_the_saved_model_can_be_used(
    project: Path, moved: dict[str, Any], monkeypatch: pytest.MonkeyPatch, objective: str, kind: WeightsKind
) -> None:
    monkeypatch.setitem(catalog.VERIFIERS, "number", Verifier(method_project.parity))
    if objective != "sft":
        method_project.write_params(project, method_project.with_weights(objective, kind))
    base_before = manifest.verify(project / "models" / "base")
    out = run(objective, kind)

    assert manifest.verify(project / "models" / "base") == base_before
    (frozen, frozen_after), (trained, trained_after) = moved["frozen"], moved["trained"]
    assert frozen == frozen_after
    assert bool(frozen) is (kind != "full")
    assert sum(trained_after[name] != digest for name, digest in trained.items()) > len(trained) / 2
    only_adapter = all("lora_" in name or "score" in name for name in trained)
    assert only_adapter is (kind != "full")

    saved = [name for file in out.glob("*.safetensors") for name in load_file(file)]
    assert all("lora_" in name or name.endswith("score.weight") for name in saved) is (kind != "full")
    assert not any(".ref." in name for name in saved)
    assert lineage.read(out)["method"] == {"objective": objective, "weights": kind}
    events = journal.read(out / journal.NAME)
    assert journal.first(events, "end")["steps"] >= 2
    trainings, shape = document.load().trainings, model_shape.read("models/base")
    chosen, _ = plan_entries.plan(out.name, trainings, shape, hardware.detect())
    assert chosen.workload == workload.from_journal(journal.first(events, "start"))  # the plan and the run agree

    profile = device.detect()
    if objective == "reward":
        opened = loading.open_reward_model(out, project / "models" / "base", profile)
        long, short = reward.scores(opened, [[1, 5, 9, 13, 2], [1, 2]], 2)
        assert long != short
    else:
        opened = loading.open_model(out, project / "models" / "base", profile)
        assert generation.answer(opened.model, opened.tokenizer, [{"prompt": PROMPT}], max_new_tokens=3)[0]


def steps(out: Path) -> list[dict[str, Any]]:
    return [event for event in journal.read(out / journal.NAME) if event["event"] == "step"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_starts_equal_to_its_reference_and_moves_away(project: Path, kind: WeightsKind) -> None:
    method_project.write_params(project, method_project.with_weights("rlhf", kind))
    first, *_, last = steps(run("rlhf", kind))
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    assert abs(last["kl"]) > 1e-4


@pytest.fixture
def gpu_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """The precision and the recomputation of a GPU, on a CPU."""
    profile = device.Profile("cpu", "as a GPU would", torch.bfloat16, gradient_checkpointing=True)
    monkeypatch.setattr(device, "detect", lambda: profile)


@pytest.mark.usefixtures("gpu_like")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objective", ["sft", "dpo", "kto", "reward", "rlhf", "grpo"])
def test_every_method_trains_in_bfloat16_with_recomputation(
    project: Path, monkeypatch: pytest.MonkeyPatch, objective: str, kind: WeightsKind
) -> None:
    monkeypatch.setitem(catalog.VERIFIERS, "number", Verifier(method_project.parity))
    if objective != "sft":
        method_project.write_params(project, method_project.with_weights(objective, kind))
    first = steps(run(objective, kind))[0]
    if objective in ("dpo", "kto"):  # the policy still equals its reference
        assert first["loss"] == pytest.approx(math.log(2) if objective == "dpo" else 0.5, abs=0.02)


@pytest.mark.parametrize("objective", ["sft", "dpo", "kto", "reward", "rlhf", "grpo"])
def test_without_validation_rows_the_last_step_is_kept_and_a_line_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], objective: str
) -> None:
    monkeypatch.setitem(catalog.VERIFIERS, "number", Verifier(method_project.parity))
    for path in project.glob("data/ready/*/validation.jsonl"):
        path.write_text("")
    events = journal.read(run(objective, "lora") / journal.NAME)
    assert "no validation rows: the last step is kept" in capsys.readouterr().out
    assert not {"validation", "sample", "held_out"} & {event["event"] for event in events}
    end = journal.first(events, "end")
    assert end["kept"] == end["steps"]


def test_rows_that_would_meet_when_packed_are_trained_one_by_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = steps(run("sft", "lora"))
    monkeypatch.setattr(sft, "packs_exactly", lambda *_: False)
    alone = steps(run("sft", "lora"))
    assert "not packed" in capsys.readouterr().out
    assert len(alone) > len(packed)
    assert alone[0]["loss"] == pytest.approx(packed[0]["loss"], rel=0.2)


@pytest.mark.parametrize("start", ["base", "sft-full"])
@pytest.mark.parametrize("objective", ["dpo", "kto", "reward", "grpo"])
def test_a_training_starts_from_any_policy(
    project: Path, monkeypatch: pytest.MonkeyPatch, objective: str, start: str
) -> None:
    monkeypatch.setitem(catalog.VERIFIERS, "number", Verifier(method_project.parity))
    run("sft", "full")
    method_project.write_params(project, method_project.changed(objective, start=start, probes=0))
    out = run(objective, "lora")
    assert lineage.read(out)["on"]["model"] == start
    base = project / "models" / "base"
    opened = loading.open_reward_model if objective == "reward" else loading.open_model
    assert opened(out, base, device.detect()).full_weights.name == start


def test_rollouts_can_be_generated_a_few_at_a_time(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.VERIFIERS, "number", Verifier(method_project.parity))
    method_project.write_params(project, method_project.changed("grpo", batch_size=2))
    assert len(steps(run("grpo", "lora"))) == method_project.ONLINE["steps"]


def test_too_few_prompts_for_a_step_are_an_error(project: Path) -> None:
    method_project.write_params(project, method_project.changed("rlhf", prompts=20))
    with pytest.raises(DataError, match=r"12 prompts to train on, and a step takes 20 \(rlhf\.rlhf\.prompts\)"):
        run("rlhf", "lora")


def test_rows_of_the_wrong_kind_are_an_error_before_a_reference_is_computed(project: Path) -> None:
    method_project.write_params(project, method_project.changed("dpo", dataset="answers"))
    with pytest.raises(DataError, match="DPO cannot learn from answers"):
        reference.main("dpo")
    method_project.write_params(project, method_project.changed("kto", dataset="answers"))
    with pytest.raises(DataError, match="KTO cannot learn from answers"):
        train_kto.main("kto")


@pytest.mark.parametrize(("beta", "max_kl"), [(0.0, 1.0), (0.1, None)])
def test_a_bound_on_the_kl_needs_a_weight_on_the_kl(beta: float, max_kl: float | None) -> None:
    with pytest.raises(ValidationError, match="max_kl bounds the KL that beta weighs"):
        Grpo(**(method_project.PARAMS["grpo"]["grpo"] | {"beta": beta, "max_kl": max_kl}))


def test_a_qlora_adapter_keeps_its_precision_when_a_trainer_is_made(tiny_base: Path, tmp_path: Path) -> None:
    lora = Lora(rank=4, alpha=8, dropout=0.0)
    policy = loading.open_policy(tiny_base, tiny_base, device.detect(), "qlora", lora)
    before = weights.digests(policy.model, trained=True)
    settings = Sft(**method_project.PARAMS["sft"]["sft-qlora"])
    row = {"id": "a", "prompt": PROMPT, "completion": [{"role": "assistant", "content": "7"}]}
    examples = sft.encode(policy.tokenizer, [row], settings, "sft.sft-qlora", Path("rows"))
    sft.make_trainer(policy, examples, settings, device.detect(), tmp_path)
    assert weights.digests(policy.model, trained=True) == before


def test_generation_that_disagrees_with_training_is_an_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = project / "models" / "base"
    policy = loading.open_policy(project / "models" / "sft-lora", base, device.detect(), "lora", Lora(rank=2))
    rows = ready_rows.read(project / "data" / "ready" / "prompts" / "train.jsonl")
    entry = Grpo(**method_project.PARAMS["grpo"]["grpo"])
    assert rollouts.check_agreement(policy, rows, entry) < 0.02

    def of_base(policy: Any, examples: Any, batch_size: int) -> Any:
        with policy.model.disable_adapter():
            return likelihoods(policy, examples, batch_size=batch_size)

    monkeypatch.setattr(rollouts, "likelihoods", of_base)
    with pytest.raises(TrainingError, match=r"the same completions differ by .* nats a token"):
        rollouts.check_agreement(policy, rows, entry)


@pytest.mark.parametrize(
    ("objective", "params"),
    [
        ("sft", {"scheduler": "cosine", "weight_decay": 0.1, "max_grad_norm": 0.5, "neftune": 5.0}),
        ("dpo", {"scheduler": "constant", "weight_decay": 0.1, "gradient_accumulation": 2}),
        ("grpo", {"loss_type": "dr_grpo", "scale_rewards": "none", "epsilon_high": 0.28, "delta": 1.5}),
        ("grpo", {"loss_type": "cispo", "importance_sampling_level": "sequence", "mask_truncated_completions": True}),
        ("rlhf", {"num_iterations": 2, "normalize_advantages": True, "reward_clip_range": [-5.0, 5.0]}),
    ],
)
def test_the_knobs_of_an_entry_reach_its_trainer(
    project: Path, monkeypatch: pytest.MonkeyPatch, objective: str, params: dict[str, Any]
) -> None:
    monkeypatch.setitem(catalog.VERIFIERS, "number", Verifier(method_project.parity))
    name = "sft-lora" if objective == "sft" else objective
    changed = method_project.PARAMS | {objective: {name: method_project.PARAMS[objective][name] | params}}
    method_project.write_params(project, changed)
    seen: list[Any] = []
    train = run_module.train
    stage = {"sft": train_sft, "dpo": train_dpo, "grpo": train_grpo, "rlhf": train_rlhf}[objective]

    def spy(trainer: Any, *rest: Any, **more: Any) -> Any:
        seen.append(trainer)
        return train(trainer, *rest, **more)

    monkeypatch.setattr(stage, "train", spy)
    out = run(objective, "lora")
    arguments = vars(seen[0].args)
    names = {
        "scheduler": "lr_scheduler_type",
        "neftune": "neftune_noise_alpha",
        "gradient_accumulation": "gradient_accumulation_steps",
    }
    for param, value in params.items():
        expected = {"constant": "constant_with_warmup"}.get(str(value), value)
        assert arguments[names.get(param, param)] == (tuple(expected) if isinstance(expected, list) else expected), (
            param
        )
    rates = [step["learning_rate"] for step in journal.steps(journal.read(out / journal.NAME))]
    assert (len(set(rates)) == 1) is (params.get("scheduler") == "constant")
