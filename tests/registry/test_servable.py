"""A model that a server would refuse or serve wrong is refused before it is registered, with every reason and fix."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapters
import pytest
from profiles import EXACT
from safetensors.numpy import load_file, save_file

from tunesmith.core import manifest
from tunesmith.core.errors import IntegrityError, RegistryError
from tunesmith.registry import servable
from tunesmith.training.merge import merge

MAX = 16


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_base, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return adapters.write(tmp_path / "sft-lora", base)


@pytest.fixture
def full(base: Path, tmp_path: Path) -> Path:
    return adapters.write_full(tmp_path / "sft-full", base)


def problems(folder: Path, base: Path, on: Path | None = None) -> list[str]:
    return [reason.text for reason in servable.reasons(folder, base, on, MAX)]


def test_models_that_the_pipeline_makes_can_be_served(base: Path, adapter: Path, full: Path, tmp_path: Path) -> None:
    merge(adapter, base, tmp_path / "merged", EXACT)
    for folder in (adapter, full, tmp_path / "merged"):
        servable.check(folder, base, None, MAX)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"r": 17}, "its rank 17 is over serve.max_lora_rank: 16"),
        ({"use_dora": True}, "a variant of LoRA (use_dora)"),
        ({"modules_to_save": ["norm"]}, "saves whole modules (modules_to_save)"),
        ({"trainable_token_indices": [1, 2]}, "trains single tokens (trainable_token_indices)"),
        ({"rank_pattern": {"q_proj": 2}}, "has different ranks by layer (rank_pattern)"),
        ({"alpha_pattern": {"q_proj": 2}}, "has different alphas by layer (alpha_pattern)"),
    ],
)
def test_an_adapter_that_servers_refuse_is_refused_and_served_merged(
    base: Path, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    folder = adapters.write(tmp_path / "odd", base, **settings)
    with pytest.raises(RegistryError, match=r"package\.merged in params\.yaml") as error:
        servable.check(folder, base, None, MAX)
    assert reason in str(error.value)
    merge(folder, base, tmp_path / "merged", EXACT)
    assert problems(tmp_path / "merged", base) == []


def test_a_rank_at_the_limit_can_be_served(base: Path, tmp_path: Path) -> None:
    assert problems(adapters.write(tmp_path / "a", base, r=MAX), base) == []


def test_the_error_names_every_reason_at_once(base: Path, tmp_path: Path) -> None:
    folder = adapters.write(tmp_path / "odd", base, r=17, use_dora=True, modules_to_save=["norm"])
    with pytest.raises(RegistryError) as error:
        servable.check(folder, base, None, MAX)
    assert all(word in str(error.value) for word in ("rank 17", "use_dora", "modules_to_save"))


def test_an_adapter_on_other_weights_is_served_where_those_are(base: Path, full: Path, tmp_path: Path) -> None:
    folder = adapters.write(tmp_path / "dpo", base, on=full)
    assert problems(folder, base, full) == []
    assert problems(folder, base) == ["it is an adapter on the weights of sft-full, not on the base's"]


def test_the_weights_under_an_adapter_must_be_those_it_was_trained_on(
    base: Path, adapter: Path, full: Path, tiny_base: Path, tmp_path: Path
) -> None:
    other = adapters.rounded(tiny_base, tmp_path / "other")
    (reason,) = problems(adapter, base, full)
    assert reason.startswith("it is an adapter on weights")
    assert [text.split(" with")[0] for text in problems(full, other)] == ["it was trained on a base"]
    assert len(problems(adapter, other)) == 2


# Changes to a model folder; its manifest is written again afterwards.


def edited(file: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: adapters.edit(folder, file, **changes)


def retemplated(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def another_token(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": 5000, "content": "<|new|>"})
    path.write_text(json.dumps(tokenizer))


def tensors(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file(change(load_file(path)), path)

    return rewrite


def garbled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 64)


def without(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def with_weights_beside(folder: Path) -> None:
    shutil.copy(folder / "adapter_model.safetensors", folder / "model.safetensors")


def first(weights: dict[str, Any]) -> Any:
    return next(iter(weights.values()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (retemplated, "its chat template is not the base's"),
        (without_template, "its chat template is not the base's"),
        (edited("tokenizer_config.json", eos_token="<|im_start|>"), "its eos token is not the base's"),
        (edited("tokenizer_config.json", pad_token={"content": "<|im_end|>"}), "its pad token is not the base's"),
        (another_token, "its tokenizer has ids up to 5000, and the embedding has"),
        (another_token, "its tokenizer is not that of the weights it is on (1 entries differ)"),
        (edited("adapter_config.json", r=2), "says rank 2, its tensors have 4"),
        (edited("adapter_config.json", r=[4]), "says rank [4], its tensors have 4"),
        (edited("adapter_config.json", bias="lora_only"), "it trains biases (bias: lora_only)"),
        (edited("adapter_config.json", peft_type="IA3"), "an adapter of kind IA3, not LoRA"),
        (edited("adapter_config.json", task_type="SEQ_CLS"), "it is for SEQ_CLS instead of answering"),
        (
            tensors(lambda weights: {name: value.repeat(9, 0).repeat(9, 1) for name, value in weights.items()}),
            "36 is over",
        ),
        (
            tensors(lambda weights: weights | {"model.norm.weight": first(weights)}),
            "that are not LoRA weights of a linear layer",
        ),
        (
            tensors(lambda weights: {f"{name}.lora_A.weight": value[0] for name, value in weights.items()}),
            "not LoRA weights of",
        ),
        (tensors(lambda weights: {}), "its tensors have none"),
        (with_weights_beside, "it holds other weights: model.safetensors"),
        (garbled, "cannot be read as safetensors"),
        (without("adapter_model.safetensors"), "cannot be read as safetensors"),
        (without("lineage.json"), "lineage.json: cannot be read"),
        (edited("lineage.json", on=None), "does not say on which weights it was trained"),
        (edited("lineage.json", base={}), "does not say on which weights it was trained"),
        (edited("tokenizer.json", model=[]), "not a tokenizer ("),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "adapter_config.json: cannot be read"),
    ],
)
def test_a_changed_adapter_is_refused_with_the_reason(
    base: Path, adapter: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(adapter)
    manifest.write(adapter)
    with pytest.raises(RegistryError) as error:
        servable.check(adapter, base, None, MAX)
    assert reason in str(error.value)


def test_full_weights_that_score_are_refused(base: Path, full: Path) -> None:
    adapters.edit(full, "config.json", architectures=["LlamaForSequenceClassification"])
    assert problems(full, base) == ["it scores instead of answering (LlamaForSequenceClassification)"]


def test_weights_whose_server_would_not_stop_are_refused(base: Path, full: Path) -> None:
    adapters.edit(full, "generation_config.json", eos_token_id=[0, 1])
    (reason,) = problems(full, base)
    assert reason.endswith("generation_config.json does not stop at its end of turn, <|im_end|>")


def test_full_weights_with_too_few_embeddings_are_refused(base: Path, full: Path) -> None:
    adapters.edit(full, "config.json", vocab_size=10)
    (reason,) = problems(full, base)
    assert reason.endswith("and the embedding has 10 rows")


def test_full_weights_with_an_adapter_config_are_refused(base: Path, full: Path, adapter: Path) -> None:
    """peft and transformers load such a folder as an adapter."""
    shutil.copy(adapter / "adapter_config.json", full)
    manifest.write(full)
    with pytest.raises(RegistryError):
        servable.check(full, base, None, MAX)


@pytest.mark.parametrize("file", ["adapter_config.json", "lineage.json", "chat_template.jinja"])
def test_a_file_that_was_changed_or_is_a_link_is_an_integrity_error(base: Path, adapter: Path, file: str) -> None:
    path = adapter / file
    content = path.read_text()
    path.write_text(content + " ")
    with pytest.raises(IntegrityError, match="changed"):
        servable.check(adapter, base, None, MAX)
    path.unlink()
    (base.parent / "elsewhere").write_text(content)
    path.symlink_to(base.parent / "elsewhere")
    with pytest.raises(IntegrityError, match="a link"):
        servable.check(adapter, base, None, MAX)
