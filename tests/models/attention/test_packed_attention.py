from itertools import pairwise
from typing import Any

import pytest
import torch
from model_kinds import EXACTLY, KINDS, LAYERS, WINDOW, assert_equal, gradients, make
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tunesmith.models.attention import packed_attention
from tunesmith.models.attention.packed_attention import attend_packed, attends_packed, backbone, packed, packs_exactly

ROWS = [[*range(1, 6)], [7], [*range(10, 22)], [*range(30, 37)]]
OWN: dict[str, dict[str, Any]] = {
    "gemma2": {"layer_types": LAYERS, "sliding_window": WINDOW, "attn_logit_softcapping": 0.5},
    "gpt_oss": {"layer_types": LAYERS, "sliding_window": WINDOW, "num_local_experts": 2, "num_experts_per_tok": 1},
}
"""Models whose attention torch's does not compute: with soft caps, with sinks."""


@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize(("kind", "settings"), (KINDS | OWN).items(), ids=(KINDS | OWN).keys())
def test_packed_rows_and_their_gradients_are_those_of_each_row_alone(
    kind: str, settings: dict[str, Any], recomputed: bool
) -> None:
    plain, model = make(kind, **settings), make(kind, **settings)
    expected = torch.cat([plain(input_ids=torch.tensor([row]), use_cache=False).logits for row in ROWS], dim=1)
    expected.square().mean().backward()
    assert attend_packed(model)
    if recomputed:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    logits = model(**packed(ROWS), use_cache=False).logits
    logits.square().mean().backward()
    torch.testing.assert_close(logits, expected, **EXACTLY)
    assert_equal(gradients(model), gradients(plain))


@pytest.mark.parametrize(("kind", "settings"), (KINDS | OWN).items(), ids=(KINDS | OWN).keys())
def test_no_mask_over_packed_rows_is_built(kind: str, settings: dict[str, Any]) -> None:
    model, sizes = make(kind, **settings), []
    attend_packed(model)
    for module in model.modules():
        if module.__class__.__name__.endswith("Attention"):
            module.register_forward_pre_hook(
                lambda module, args, inputs: sizes.append(inputs["attention_mask"].numel()), with_kwargs=True
            )
    model(**packed(ROWS))
    assert sizes == [0, 0]


def test_a_model_that_carries_a_state_over_packed_rows_is_told() -> None:
    model = make("mamba", state_size=4)
    assert not attend_packed(model)
    assert not packs_exactly(model, packed(ROWS), ROWS[-1])
    assert packs_exactly(model, {"input_ids": torch.tensor([ROWS[-1]])}, ROWS[-1])


def test_layers_that_see_an_unknown_part_of_their_row_keep_their_own_attention() -> None:
    model = make("llama")
    model.config.layer_types = ["chunked_attention", "full_attention"]
    assert not attend_packed(model)


def test_a_model_that_loses_the_offsets_of_its_rows_keeps_its_own_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    forget = lambda module, args, inputs: (args, {**inputs, "cu_seq_lens_q": None})  # noqa: E731
    for layer in backbone(model).layers:
        layer.register_forward_pre_hook(forget, with_kwargs=True)
    assert not attend_packed(model)
    assert model.config._attn_implementation == "eager"
    ids = torch.tensor([ROWS[-1]])
    torch.testing.assert_close(model(input_ids=ids).logits, make("llama")(input_ids=ids).logits)


@pytest.mark.parametrize(("kind", "settings"), [("llama", {}), *OWN.items()], ids=["llama", *OWN])
def test_padded_batches_and_generation_are_unchanged(kind: str, settings: dict[str, Any]) -> None:
    model = make(kind, **settings)
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    before = model(input_ids=ids, attention_mask=mask).logits
    answers = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert attend_packed(model)
    kept = mask.bool()
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits[kept], before[kept], **EXACTLY)
    again = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert again.tolist() == answers.tolist()


def stand_in(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What torch's kernel for rows of different lengths promises, a row at a time: its shapes, checks and windows."""
    assert {query.dtype, key.dtype, value.dtype} == {torch.bfloat16}
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert max_q == max_k == cu_seq_q.diff().max()
    assert enable_gqa == (query.shape[1] != key.shape[1])
    left, right = window_size
    assert right == 0
    outputs = []
    for begin, end in pairwise(cu_seq_q.tolist()):
        q, k, v = (tensor[begin:end].transpose(0, 1) for tensor in (query, key, value))
        distance = torch.arange(end - begin)[:, None] - torch.arange(end - begin)
        seen = (distance >= 0) & ((distance <= left) | (left == -1))
        outputs.append(scaled_dot_product_attention(q, k, v, seen, scale=scale, enable_gqa=enable_gqa).transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_torchs_kernel_is_given_the_rows_windows_and_scale_of_the_model(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def by_offsets(*args: Any) -> Tensor:
        calls.append(args)
        return original(*args, kernel=stand_in)

    original = packed_attention.by_offsets
    model, plain = make(kind), make(kind)
    attend_packed(model)
    monkeypatch.setattr(packed_attention, "by_offsets", by_offsets)
    monkeypatch.setattr(packed_attention, "_kernel_takes", lambda *_: True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(**packed(ROWS)).logits.float()
        expected = torch.cat([plain(input_ids=torch.tensor([row])).logits for row in ROWS], dim=1).float()
    assert len(calls) == 2
    assert (logits - expected).norm() < 0.03 * expected.norm()


def test_torchs_kernel_takes_the_call_and_gives_gradients() -> None:
    """On the meta device, which runs everything about the kernel but its arithmetic."""
    query, key, value = (
        torch.empty(1, heads, 25, 8, dtype=torch.bfloat16, device="meta", requires_grad=True) for heads in (4, 2, 2)
    )
    offsets = torch.empty(5, dtype=torch.int32, device="meta")
    output = packed_attention.by_offsets(query, key, value, offsets, 12, 0.5, WINDOW)
    assert output.shape == (1, 25, 4, 8)
    output.sum().backward()
    assert [tensor.grad is not None and tensor.grad.shape for tensor in (query, key)] == [query.shape, key.shape]


@pytest.mark.parametrize(
    ("head", "value", "dtype", "capability", "taken"),
    [
        (128, 128, torch.bfloat16, (9, 0), True),
        (256, 256, torch.float16, (8, 0), True),
        (128, 128, torch.float32, (9, 0), False),
        (128, 128, torch.bfloat16, (7, 5), False),
        (512, 512, torch.bfloat16, (9, 0), False),
        (100, 100, torch.bfloat16, (9, 0), False),
        (192, 128, torch.bfloat16, (9, 0), False),
    ],
)
def test_torchs_kernel_is_chosen_where_it_computes(
    head: int, value: int, dtype: torch.dtype, capability: tuple[int, int], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnGpu(Tensor):
        is_cuda = True

    query, values = (torch.empty(1, 1, 1, size).as_subclass(OnGpu) for size in (head, value))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert packed_attention._kernel_takes(query, values, dtype) is taken
    assert not packed_attention._kernel_takes(torch.empty(1, 1, 1, head), values, dtype)
    assert not attends_packed(torch.nn.Linear(1, 1))
