"""Every kind of adapter and every optimizer trains, saves, opens in plain peft as what was trained, and goes on."""

import math
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from peft import PeftModel
from profiles import EXACT
from sft_sums import PROBES, ROWS, settings, spec_of, tokens
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments, set_seed

from tunesmith.core import layout, manifest
from tunesmith.core.errors import ParamsError
from tunesmith.core.params import parse
from tunesmith.evaluation.harness.opened_lm import OpenedLM
from tunesmith.models import loading, servable_adapter, weights
from tunesmith.models.device import Profile
from tunesmith.models.loading import OpenModel
from tunesmith.models.settings import Lora
from tunesmith.registry import servable
from tunesmith.training import optimizers, run
from tunesmith.training.entries.common import Optimizer
from tunesmith.training.entries.sft import Sft
from tunesmith.training.merge import merge
from tunesmith.training.objectives.sft import make_trainer
from tunesmith.training.watch import Watch

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "targets": {"targets": ["q_proj", "down_proj"]},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "gaussian": {"init": "gaussian"},
    "orthogonal": {"init": "orthogonal"},
    "pissa": {"init": "pissa"},
    "olora": {"init": "olora"},
    "pissa-dora-rslora": {"init": "pissa", "dora": True, "rslora": True},
    "embeddings": {"embeddings": True},
    "embeddings-tied": {"embeddings": True},
}
MERGED_ONLY = {"dora", "pissa-dora-rslora", "embeddings", "embeddings-tied"}
"""What vLLM refuses."""


@pytest.fixture
def base(request: pytest.FixtureRequest, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a base in a project, which is the current folder."""
    tied = "tied" in request.node.name
    folder = shutil.copytree(request.getfixturevalue("tied_base") if tied else tiny_base, tmp_path / "models" / "base")
    monkeypatch.chdir(tmp_path)
    return folder


class Killed(BaseException):
    pass


class Killer(TrainerCallback):
    """Ends the process's work before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self.step:
            raise Killed


def train(base: Path, name: str, *, profile: Profile = EXACT, kill_at: int | None = None, **changes: Any) -> OpenModel:
    """Train two steps, save the model as ``name`` beside the base, and return it as it was trained."""
    sft = settings(**changes)
    set_seed(sft.seed)
    policy = loading.open_policy(base, base, profile, sft.weights, sft.lora)
    examples = tokens(policy.tokenizer, ROWS, sft)
    trainer = make_trainer(policy, examples, sft, profile, base.parent / "scratch")
    if kill_at:
        trainer.add_callback(Killer(kill_at))
    watch = Watch(probes=PROBES[:1], rows_of=trainer.data_collator.rows_of)
    tokens_of = {row: len(example.input_ids) for row, example in examples.items()}
    run.train(trainer, policy, spec_of(sft, base.parent / name, base), watch, profile, tokens_of=tokens_of)
    assert trainer.state.global_step == 2
    return policy


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    values: torch.Tensor = model.eval()(input_ids=IDS).logits
    return values


@torch.inference_mode()
def hidden(opened: OpenModel) -> torch.Tensor:
    model: Any = opened.model.get_base_model() if isinstance(opened.model, PeftModel) else opened.model
    values: torch.Tensor = model.eval().model(input_ids=IDS).last_hidden_state
    return values


def same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_adapter_is_the_same_function_wherever_it_is_opened(base: Path, variant: str) -> None:
    lora = Lora(rank=4, alpha=8, **VARIANTS[variant])
    policy = train(base, "sft", lora=lora)
    warned = bool(servable_adapter.warnings(weights.saved_config(policy.model)))
    folder, trained = base.parent / "sft", logits(policy.model)
    same(logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)), trained)
    plain = logits(loading.open_model(base, base, EXACT).model)
    assert (plain - trained).abs().max() > 1e-2
    folders = [folder, base]  # the base after the adapter, on the same weights
    for (_, opened), expected in zip(loading.open_each(folders, base, EXACT), (trained, plain), strict=True):
        same(logits(opened.model), expected)
        same(logits(OpenedLM(opened, 1).model), expected)  # as lm-eval asks it
    further = loading.open_policy(folder, base, EXACT, "lora", lora)
    same(logits(further.model), trained)
    scorer = loading.new_reward_model(folder, base, EXACT, "lora", lora)
    same(hidden(scorer), hidden(further))
    merge(folder, base, base.parent / "merged", EXACT)
    same(logits(AutoModelForCausalLM.from_pretrained(base.parent / "merged")), trained)
    assert bool(servable.reasons(folder, base, None, 64)) == warned == (variant in MERGED_ONLY)
    assert servable.reasons(base.parent / "merged", base, None, 64) == []


@pytest.mark.parametrize(
    ("variant", "kind"),
    [("dora", "lora"), ("pissa", "lora"), ("embeddings", "lora"), ("dora", "qlora"), ("embeddings", "qlora")],
)
def test_an_adapter_trains_in_bfloat16_with_recomputation(base: Path, variant: str, kind: str) -> None:
    profile = Profile("cpu", "a test", torch.bfloat16, gradient_checkpointing=True)
    policy = train(base, "sft", profile=profile, weights=kind, lora=Lora(rank=4, alpha=8, **VARIANTS[variant]))
    assert {values.dtype for values in weights.trained(policy.model).values()} == {torch.float32}
    trained = logits(policy.model)
    opened = logits(loading.open_model(base.parent / "sft", base, EXACT).model)
    moved = (opened - logits(loading.open_model(base, base, EXACT).model)).abs().mean()
    assert (opened - trained).abs().mean() < (0.1 if kind == "lora" else 0.5) * moved  # NF4 itself is that far


@pytest.mark.parametrize("variant", ["pissa", "embeddings-tied"])
def test_a_training_from_changed_values_goes_on_exactly(
    base: Path, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on_exactly(base, monkeypatch, lora=Lora(rank=4, alpha=8, **VARIANTS[variant]))


@pytest.mark.parametrize("optimizer", [name for name in get_args(Optimizer) if name != "adamw"])
def test_a_training_with_any_optimizer_goes_on_exactly(
    base: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = Lora(rank=128, alpha=32, targets=["up_proj"])  # of fewer values than 4,096, bitsandbytes keeps 32 bits
    goes_on_exactly(base, monkeypatch, optimizer=optimizer, learning_rate=0.02, lora=lora)


def goes_on_exactly(base: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """A training that is killed before its second step ends in the weights of one that was not."""
    monkeypatch.setenv(layout.CHECKPOINT_VARIABLE, "0")
    train(base, "unbroken", **changes)
    with pytest.raises(Killed):
        train(base, "killed", kill_at=2, **changes)
    train(base, "killed", kill_at=1, **changes)  # which a training that goes on does not reach
    digests = {manifest.verify(base.parent / name).weights_digest for name in ("unbroken", "killed")}
    assert len(digests) == 1


@pytest.mark.filterwarnings("ignore:You have requested `ensure_weight_tying`")  # peft overlooks that they are tied
@pytest.mark.parametrize("variant", ["pissa", "dora", "embeddings-tied"])
def test_a_copy_of_the_start_stays_the_start(base: Path, variant: str) -> None:
    """TRL copies the adapter to have a reference, as here, and trains the first one."""
    model: Any = loading.open_policy(base, base, EXACT, "lora", Lora(rank=4, **VARIANTS[variant])).model
    start, frozen = logits(model), weights.digests(model, trained=False)
    model.add_adapter("ref", model.peft_config["default"])
    for name, values in weights.trained(model).items():
        model.get_parameter(name.replace(".default.", ".ref.")).data.copy_(values.data)
        values.data.add_(0.1)
    assert (logits(model) - start).abs().max() > 0.1
    model.set_adapter("ref")
    same(logits(model), start)
    assert frozen.items() <= weights.digests(model, trained=False).items()


def test_a_reward_model_may_have_any_adapter(base: Path) -> None:
    for variant in ("pissa", "dora", "embeddings"):
        scorer = loading.new_reward_model(base, base, EXACT, "lora", Lora(rank=4, **VARIANTS[variant]))
        same(hidden(scorer), hidden(loading.open_model(base, base, EXACT)))


def test_what_was_learned_survives_rounding_to_bfloat16(base: Path) -> None:
    """The saved factors of a small update of large initial values do not nearly cancel."""
    torch.manual_seed(0)
    a0, b0 = torch.randn(4, 32), torch.randn(64, 4)
    a, b = a0 + 1e-3 * torch.randn(4, 32), b0 + 1e-3 * torch.randn(64, 4)
    update = b @ a - b0 @ a0
    new_a, new_b = (part.bfloat16().float() for part in weights._difference(a, b, a0, b0))
    assert (new_a.shape, new_b.shape) == ((8, 32), (64, 8))
    assert (new_b @ new_a - update).norm() < 0.01 * update.norm()


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"lora": {"init": "pissa", "dropout": 0.1}}, "set dropout to 0"),
        ({"lora": {"init": "orthogonal", "rank": 3}}, "needs an even rank"),
        ({"lora": {"init": "pissa"}, "weights": "qlora"}, "weights that 4 bits cannot hold"),
        ({"lora": {"init": "orthogonal"}, "weights": "qlora"}, "made in the dtype of the weights"),
        ({"lora": {"targets": []}}, "at least 1 item"),
        ({"lora": {"init": "eva"}}, "init"),
    ],
)
def test_adapters_that_would_be_wrong_are_refused_before_anything_runs(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(ParamsError, match=reason):
        parse(Sft, {"dataset": "rows", **params}, "sft.one")


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({"targets": ["q_proj", "v_prj"]}, "no linear layer 'v_prj'; did you mean 'v_proj'"),
        ({"targets": ["lm_head"]}, "no linear layer 'lm_head'"),
        ({"init": "olora", "rank": 17}, r"rank 16, so that init: olora cannot take 17 out of it"),
    ],
)
def test_adapters_that_a_model_has_no_place_for_are_refused(base: Path, lora: dict[str, Any], reason: str) -> None:
    with pytest.raises(ParamsError, match=reason):
        loading.open_policy(base, base, EXACT, "lora", Lora(**lora))


@pytest.mark.parametrize(
    ("config", "begins"),
    [
        ({"r": 64}, None),
        ({"r": 128}, "vLLM serves this adapter, of rank 128, only where serve.max_lora_rank is no less"),
        ({"r": 1024}, "vLLM cannot serve this adapter, since its rank 1024 is over"),
        ({"r": 8, "use_dora": True}, "vLLM cannot serve this adapter, since it is a variant of LoRA (use_dora)"),
        ({"r": 8, "use_dora": True, "task_type": "SEQ_CLS"}, None),
    ],
)
def test_what_vllm_cannot_serve_is_said_before_a_training(config: dict[str, Any], begins: str | None) -> None:
    said = servable_adapter.warnings({"peft_type": "LORA", "task_type": "CAUSAL_LM"} | config)
    assert [text.startswith(begins or "") for text in said] == ([True] if begins else [])


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    args = TrainingArguments(str(tmp_path), learning_rate=0.01, weight_decay=0.1, use_cpu=True, report_to="none")
    optimizer = optimizers.make_muon(Trainer(model, args))
    names = {id(values): name for name, values in model.named_parameters()}
    matrices, decaying, others = ({names[id(values)] for values in group["params"]} for group in optimizer.param_groups)
    assert matrices == {name for name in names.values() if "proj" in name}
    assert decaying == {"model.embed_tokens.weight", "lm_head.weight"}
    assert others == {name for name in names.values() if "norm" in name}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0.0]


def test_muon_moves_each_weight_about_as_far_as_adamw_would(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    args = TrainingArguments(str(tmp_path), learning_rate=0.01, use_cpu=True, report_to="none")
    optimizer = optimizers.make_muon(Trainer(model, args))
    before = {name: values.detach().clone() for name, values in model.named_parameters()}
    model(input_ids=IDS, labels=IDS).loss.backward()
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    optimizer.step()
    moved = (before["model.layers.0.mlp.up_proj.weight"] - model.model.layers[0].mlp.up_proj.weight).detach()
    assert 0.2 * 0.5 < moved.square().mean().sqrt() / (0.01 * 0.2) < 2 * 0.5
    norm = (before["model.norm.weight"] - model.model.norm.weight).detach().abs()
    assert math.isclose(norm.max(), 0.005, rel_tol=1e-3)
