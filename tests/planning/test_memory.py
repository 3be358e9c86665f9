import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.helpers import disable_input_dtype_casting
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import BaseModelOutputWithPast
from trl.trainer.utils import add_fused_lm_head

from tunesmith.models import loading, weights
from tunesmith.models.device import Profile
from tunesmith.models.packed_attention import use_row_by_row
from tunesmith.planning import activations, memory, model_shape
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.workload import BF16, CPU, FLOAT32, GPU, Machine, Run

GB = 1e9
LLAMA = model_shape.read("llama-2-7b")
SFT = Run(objective="sft", weights="lora", batch=4, length=1024, machine=GPU, rank=16)
ONLINE = replace(SFT, objective="grpo", batch=8, rollouts=8, group=8, completion=512)
METHODS = [
    replace(made, objective=objective, weights=kind)
    for objective, made in [
        ("sft", SFT),
        ("dpo", SFT),
        ("reward", SFT),
        ("rlhf", replace(ONLINE, reference=True)),
        ("grpo", ONLINE),
    ]
    for kind in ("lora", "qlora", "full")
]


def name(run: Run) -> str:
    return f"{run.objective}-{run.weights}"


def test_a_llama_2_7b_takes_what_is_known_of_it() -> None:
    lora, qlora, full = (memory.predict(LLAMA, replace(SFT, weights=kind)) for kind in ("lora", "qlora", "full"))
    assert lora.weights == pytest.approx(13.5 * GB, rel=0.01)  # "about 14 GB" with what is around it
    assert qlora.weights == pytest.approx(3.9 * GB, rel=0.01)
    assert 10e6 < memory.trainable(LLAMA, SFT) < 100e6
    assert qlora.total < 16 * GB < lora.total < 24 * GB
    assert full.total > 4 * 24 * GB
    assert full.optimizer == 2 * full.gradients == 2 * full.weights


@pytest.mark.parametrize("run", METHODS, ids=name)
def test_the_peak_lies_between_the_largest_part_and_their_sum(run: Run) -> None:
    predicted = memory.predict(LLAMA, run)
    parts = [value for part, value in vars(predicted).items() if part not in ("moment", "total")]
    assert min(parts) >= 0
    assert max(parts) < predicted.total
    # Not in a part: gradients and logits that pass, and what is there only while rollouts are written.
    assert predicted.total < 1.1 * sum(parts)


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("run", METHODS, ids=name)
def test_more_work_takes_more_memory(run: Run, machine: Machine) -> None:
    run = replace(run, machine=machine)
    before = memory.predict(LLAMA, run).total
    assert memory.predict(LLAMA, replace(run, batch=2 * run.batch, rollouts=2 * run.rollouts)).total > before
    assert memory.predict(LLAMA, replace(run, length=2 * run.length)).total > before
    assert memory.predict(LLAMA, replace(run, rank=64)).total >= before


@pytest.mark.parametrize("objective", ["sft", "dpo", "reward", "rlhf", "grpo"])
def test_on_a_gpu_qlora_takes_least_and_full_most(objective: str) -> None:
    qlora, lora, full = (
        memory.predict(LLAMA, next(run for run in METHODS if name(run) == f"{objective}-{kind}")).total
        for kind in ("qlora", "lora", "full")
    )
    assert qlora < lora < full


def test_only_what_an_objective_holds_is_counted() -> None:
    held = {name(run): memory.predict(LLAMA, run) for run in METHODS}
    assert {name for name, one in held.items() if one.kv_cache} == {
        f"{objective}-{kind}" for objective in ("rlhf", "grpo") for kind in ("lora", "qlora", "full")
    }
    assert {name for name, one in held.items() if one.reward_model} == {"rlhf-lora", "rlhf-qlora", "rlhf-full"}
    assert held["rlhf-lora"].reference == held["rlhf-lora"].adapter
    assert held["rlhf-full"].reference == held["rlhf-full"].weights
    assert held["reward-lora"].logits == held["dpo-lora"].reference == 0


def test_a_prompt_that_is_not_trained_takes_no_logits() -> None:
    run = replace(SFT, machine=CPU, batch=1, length=2048)
    assert memory.predict(LLAMA, replace(run, labelled=512)).logits * 4 == memory.predict(LLAMA, run).logits


def test_the_kv_cache_of_a_llama_2_7b_is_half_a_megabyte_a_token() -> None:
    predicted = memory.predict(LLAMA, replace(ONLINE, batch=1, rollouts=1, group=1, length=1024))
    assert predicted.kv_cache == 1024 * 2 * 32 * 4096 * BF16


def test_training_in_bfloat16_halves_what_is_trained() -> None:
    full = replace(SFT, weights="full")
    half = memory.predict(LLAMA, replace(full, trained=BF16))
    assert half.optimizer * 2 == memory.predict(LLAMA, full).optimizer
    assert memory.artifact(LLAMA, replace(full, trained=BF16)) == LLAMA.parameters * BF16


@pytest.mark.parametrize("run", METHODS, ids=name)
@pytest.mark.parametrize("budget", [8, 24, 80, 400])
def test_the_largest_run_fits_and_the_next_does_not(run: Run, budget: int) -> None:
    bytes_ = int(budget * GB)
    found = memory.largest(LLAMA, run, bytes_)
    if found is None:
        least = replace(run, batch=run.group, rollouts=run.rollouts and run.group, length=64, completion=0)
        assert memory.predict(LLAMA, least).total > bytes_
        return
    assert memory.predict(LLAMA, found).total <= bytes_
    assert found.length <= run.length
    if found.length < run.length:
        assert found.batch == run.group
    elif found.batch + run.group <= memory.LARGEST:
        size = found.batch + run.group
        more = replace(found, batch=size, rollouts=size if run.rollouts else 0)
        assert memory.predict(LLAMA, more).total > bytes_


# Against torch itself.

TOKENS = 96


def model(dtype: torch.dtype, vocabulary: int = 64) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).to(dtype)


def saved_bytes(trained: Any, tokens: int, *, autocast: bool, packed: bool = False) -> int:
    """What autograd saves of the layers in a forward pass with a mask, or of two packed rows; parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in trained.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage  # held, so that its address is not given away again
        return tensor

    ids = torch.zeros((1, tokens), dtype=torch.long)
    mask = torch.ones((1, 1, tokens, tokens), dtype=torch.bool).tril()
    context = torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext()
    whole = trained.get_base_model() if hasattr(trained, "get_base_model") else trained
    given: dict[str, Any] = {"attention_mask": mask}
    if packed:
        use_row_by_row(whole)
        half = torch.arange(tokens // 2)
        rows = torch.tensor([0, tokens // 2, tokens], dtype=torch.int32)
        given = {"position_ids": torch.cat([half, half])[None], "cu_seq_lens_q": rows}
    casting = disable_input_dtype_casting(trained, active=autocast)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), context, casting:
        whole.base_model(input_ids=ids, use_cache=False, **given)
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("compute", [FLOAT32, BF16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_as_much_is_counted_as_autograd_saves(kind: weights.Kind, compute: int, device: str) -> None:
    made: Any = model(torch.float32 if compute == FLOAT32 else torch.bfloat16)
    shape = model_shape.of(made)
    if kind == "lora":
        made = weights.add_lora(made, weights.Lora(rank=4, alpha=8, dropout=0.0))
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    run = replace(SFT, weights=kind, batch=1, length=TOKENS, rank=4, machine=Machine(device, compute, False))
    casts = memory.casts(shape, run) if kind == "full" else 0
    saved = saved_bytes(made.train(), TOKENS, autocast=compute == BF16, packed=run.row_by_row)
    assert activations.kept(shape, run) + casts == pytest.approx(saved, rel=0.03)


class Held(TorchDispatchMode):
    """Bytes of the tensors that operations made and that are still there, and the most there were."""

    def __init__(self, before: Iterable[torch.Tensor]) -> None:
        """before: tensors that do not count."""
        super().__init__()
        self.now = self.most = 0
        self.seen = {tensor.untyped_storage()._cdata for tensor in before}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.seen:
                self.add(tensor.untyped_storage())
        self.most = max(self.most, self.now)
        return made

    def add(self, storage: torch.UntypedStorage) -> None:
        self.seen.add(storage._cdata)
        self.now += storage.nbytes()
        weakref.finalize(storage, self.drop, storage._cdata, storage.nbytes())

    def drop(self, address: int, count: int) -> None:
        self.seen.discard(address)
        self.now -= count


def test_as_much_is_counted_as_the_output_head_holds() -> None:
    made: Any = model(torch.float32, vocabulary=activations.TILE_WIDTH).requires_grad_(False)
    shape = model_shape.of(made)
    add_fused_lm_head(made, outputs=("log_probs", "entropy", "is_top1"))
    hidden = torch.randn((1, TOKENS, shape.hidden), requires_grad=True)
    made.model.forward = lambda *_, **__: BaseModelOutputWithPast(last_hidden_state=hidden)
    with Held(made.parameters()) as held:
        made(labels=torch.ones((1, TOKENS), dtype=torch.long), fused_lm_head=True).loss.backward()
    run = replace(SFT, batch=1, length=TOKENS, machine=CPU)
    assert activations.logits(shape, run) == pytest.approx(held.most, rel=0.02)


@pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_as_much_is_counted_as_a_backward_pass_holds(kind: weights.Kind) -> None:
    """With layers recomputed in bfloat16, as on a GPU; ``qlora`` on weights that are not quantized really."""
    made: Any = model(torch.bfloat16)
    shape = model_shape.of(made)
    made.gradient_checkpointing_enable()
    made.enable_input_require_grads()
    made = weights.add_lora(made, weights.Lora(rank=4, alpha=8, dropout=0.0)).train()
    tokens = 512
    mask = torch.ones((1, 1, tokens, tokens), dtype=torch.bool).tril()
    ids, base = torch.zeros((1, tokens), dtype=torch.long), made.get_base_model().base_model
    casting = disable_input_dtype_casting(made)
    with Held(made.parameters()) as held, torch.autocast("cpu", dtype=torch.bfloat16), casting:
        held.add(mask.untyped_storage())
        output = base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        output.backward(torch.ones_like(output))
    run = replace(SFT, weights=kind, batch=1, length=tokens, rank=4)
    kept = activations.kept(shape, run) - activations.last_norm(shape, run)
    gradients = memory.predict(shape, run).gradients
    assert kept + activations.recomputed(shape, run) + gradients == pytest.approx(held.most, rel=0.05)


def test_qlora_is_counted_as_it_is_held_and_saved(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile("cpu", "a test", torch.bfloat16, gradient_checkpointing=False)
    lora = weights.Lora(rank=4, alpha=8, dropout=0.0)
    policy = loading.open_policy(tiny_base, tiny_base, profile, "qlora", lora)
    shape = model_shape.read(str(tiny_base))
    run = replace(SFT, weights="qlora", batch=1, length=TOKENS, rank=4, machine=Machine("cuda", BF16, False))
    frozen = [parameter for parameter in policy.model.parameters() if not parameter.requires_grad]
    constants = sum(quantization_constants(one.quant_state) for one in frozen if hasattr(one, "quant_state"))
    held = sum(parameter.nbytes for parameter in frozen) + constants
    assert memory.predict(shape, run).weights == pytest.approx(held, rel=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16), monkeypatch.context() as patch:
        # peft asks whether a GPU's is on; patched within, since autocast notes at its start what to go back to.
        patch.setattr(torch, "is_autocast_enabled", lambda *_: True)
        saved = saved_bytes(policy.model.train(), TOKENS, autocast=False)
    assert activations.kept(shape, run) == pytest.approx(saved, rel=0.05)


def quantization_constants(state: Any) -> int:
    """An 8-bit constant a block and a float32 a block of those; the code books are shared, in principle."""
    return int(state.absmax.nbytes + state.state2.absmax.nbytes)


def test_prompts_that_are_computed_once_take_less(tiny_base: Path) -> None:
    shape: Shape = model_shape.read(str(tiny_base))
    run = replace(ONLINE, machine=CPU, length=96, completion=8)
    alone = replace(run, group=1)
    assert activations.kept(shape, run) < 0.6 * activations.kept(shape, alone)
