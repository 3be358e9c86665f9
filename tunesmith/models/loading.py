"""Open a model folder: verified, on the weights it was trained on, never anything else.

A folder holds full weights, or an adapter on the full weights of another folder beside it, which its lineage names.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel, TaskType, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from tunesmith.core import lineage, manifest
from tunesmith.core.errors import IntegrityError
from tunesmith.core.manifest import Manifest
from tunesmith.models import weights
from tunesmith.models.device import Profile

ADAPTER = "adapter_config.json"
BASE = "base"


@dataclass(frozen=True)
class OpenModel:
    """A model ready to run or to train.

    manifest: of its own folder. base: of the base that it descends from. on: the folder of the full weights under an
    adapter (its own for full weights). profile: what it was opened for.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    manifest: Manifest
    base: Manifest
    on: Path
    profile: Profile


def open_model(folder: Path, base: Path, profile: Profile) -> OpenModel:
    """The model in ``folder`` on ``profile``'s device, in its dtype, in evaluation mode.

    An adapter is put on weights that are not quantized, though it may have been trained on NF4: what is evaluated is
    what is served (docs/decisions/009). Raises IntegrityError where a manifest does not verify, or the model was
    trained on another base.
    """
    return next(open_each([folder], base, profile))[1]


def open_each(folders: Iterable[Path], base: Path, profile: Profile) -> Iterator[tuple[Path, OpenModel]]:
    """`open_model` for every folder; those on the same full weights, one after another, share them in memory.

    A model may be used until the next is asked for: an adapter is put on the weights, and taken off again.
    """
    verified = [(folder, *_verify(folder, base)) for folder in folders]
    together = list(dict.fromkeys(on for *_, on in verified))
    loaded: Path | None = None
    full: Any = None
    for folder, own, stated, on in sorted(verified, key=lambda each: together.index(each[-1])):
        if on != loaded:
            loaded, full = on, None  # two need not fit
            full = _load(AutoModelForCausalLM, on, profile, quantized=False).to(profile.device)
        # In the dtype of the weights it is on, as servers hold it: float32 beside bfloat16 takes twice the time.
        model = PeftModel.from_pretrained(full, folder, autocast_adapter_dtype=False) if is_adapter(folder) else full
        yield folder, OpenModel(model.eval(), _tokenizer(folder), own, stated, on, profile)
        if isinstance(model, PeftModel):
            full = model.unload()


def open_policy(folder: Path, base: Path, profile: Profile, kind: weights.Kind, lora: weights.Lora | None) -> OpenModel:
    """The model in ``folder`` as the start of a training of ``kind``; the errors are `open_model`'s.

    lora: what a fresh adapter is like; ``full`` needs none. An adapter that is trained further stays the only one, with
    its own rank; for ``full`` it is merged first.
    """
    own, stated, on = _verify(folder, base)
    model = _load(AutoModelForCausalLM, on, weights.precise(profile, kind), quantized=kind == "qlora")
    if is_adapter(folder):
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=kind != "full")
        if kind == "full":
            model = model.merge_and_unload()
    elif kind != "full":
        assert lora is not None
        model = weights.add_lora(model, lora)
    if kind == "full":
        model.requires_grad_(True)
    weights.make_precise(model)
    return OpenModel(_placed(model, profile), _tokenizer(folder), own, stated, on, profile)


def new_reward_model(folder: Path, base: Path, profile: Profile, kind: weights.Kind, lora: weights.Lora) -> OpenModel:
    """The model in ``folder`` with a fresh head that scores a conversation, to be trained as ``kind``.

    The head's values follow torch's seed. The errors are `open_model`'s.
    """
    own, stated, on = _verify(folder, base)
    tokenizer = _tokenizer(folder)
    model = _load_scorer(on, weights.precise(profile, kind), tokenizer, quantized=kind == "qlora")
    if is_adapter(folder):
        model = weights.add_lora(model, _settings(folder), task=TaskType.SEQ_CLS)
        policy = load_peft_weights(str(folder), device=profile.device)
        loaded = set_peft_model_state_dict(model, get_peft_model_state_dict(model) | policy)
        assert not loaded.unexpected_keys, loaded.unexpected_keys
        if kind == "full":
            model = model.merge_and_unload()
    elif kind != "full":
        model = weights.add_lora(model, lora, task=TaskType.SEQ_CLS)
    if kind == "full":
        model.requires_grad_(True)
    weights.make_precise(model)
    return OpenModel(_placed(model, profile), tokenizer, own, stated, on, profile)


def open_reward_model(folder: Path, base: Path, profile: Profile, *, quantized: bool = False) -> OpenModel:
    """A trained reward model, in evaluation mode; ``quantized`` puts an adapter on NF4 weights to save memory."""
    own, stated, on = _verify(folder, base)
    tokenizer = _tokenizer(folder)
    model = _load_scorer(on, profile, tokenizer, quantized=quantized and is_adapter(folder))
    if is_adapter(folder):
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
        weights.make_precise(model)  # the head as it was trained and measured
    return OpenModel(_placed(model, profile).eval().requires_grad_(False), tokenizer, own, stated, on, profile)


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER).exists()


def _verify(folder: Path, base: Path) -> tuple[Manifest, Manifest, Path]:
    """The manifests of ``folder`` and ``base``, and the folder of the full weights to load, all verified."""
    logging.disable_progress_bar()
    stated = manifest.verify(base)
    if folder == base:
        return stated, stated, base
    own, origin = manifest.verify(folder), lineage.read(folder)
    _check_weights(folder, origin["base"], base, stated)
    if not is_adapter(folder):
        return own, stated, folder
    on = base if origin["on"]["model"] == base.name else folder.parent / origin["on"]["model"]
    if on != base:
        _check_weights(folder, origin["on"], on, manifest.verify(on))
    return own, stated, on


def _check_weights(folder: Path, trained_on: dict[str, Any], found: Path, stated: Manifest) -> None:
    digest = trained_on["weights_digest"]
    if digest != stated.weights_digest:
        raise IntegrityError(
            f"{folder}: trained on a base with weights {digest[:12]}, but {found} has {stated.weights_digest[:12]}",
            fix="bring back that base, or train again on this one (`dvc repro`)",
        )


def _load(kind: Any, folder: Path, profile: Profile, *, quantized: bool, **settings: Any) -> Any:
    if quantized:
        settings |= {"quantization_config": weights.quantization(profile), "device_map": {"": profile.device}}
    settings |= {"dtype": profile.dtype, "use_safetensors": True, "trust_remote_code": False}
    model = kind.from_pretrained(folder, **settings)
    if quantized:
        weights.keep_quantized(model)
    return model


def _load_scorer(folder: Path, profile: Profile, tokenizer: PreTrainedTokenizerBase, *, quantized: bool) -> Any:
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it reports the head as missing, as is meant here
    try:
        model = _load(AutoModelForSequenceClassification, folder, profile, quantized=quantized, num_labels=1)
    finally:
        logging.set_verbosity(level)
    model.config.pad_token_id = tokenizer.pad_token_id  # the head reads the last token that is not padding
    return model


def _placed(model: Any, profile: Profile) -> Any:
    """A 4-bit model is where it was loaded, and refuses to move."""
    return model if getattr(model, "is_loaded_in_4bit", False) else model.to(profile.device)


def _settings(adapter: Path) -> weights.Lora:
    config = json.loads((adapter / ADAPTER).read_text())
    return weights.Lora(rank=config["r"], alpha=config["lora_alpha"], dropout=config["lora_dropout"])


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
