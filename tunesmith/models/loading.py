"""Open a model folder, verified, and an adapter only on the weights that it was trained on.

A folder holds full weights, or an adapter on the full weights of another folder beside it, which its lineage names.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from torch.distributed.tensor.experimental import implicit_replication
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.distributed import DistributedConfig
from transformers.utils import logging

from tunesmith.core import lineage, manifest, processes
from tunesmith.core.errors import IntegrityError
from tunesmith.core.manifest import Manifest
from tunesmith.core.params import WeightsKind
from tunesmith.models import collectives, weights
from tunesmith.models.attention.packed_attention import backbone
from tunesmith.models.device import Profile
from tunesmith.models.images import forward, parts, processor, vision_parts
from tunesmith.models.images.row_images import RowImages
from tunesmith.models.settings import Lora, Vision

ADAPTER = "adapter_config.json"
BASE = "base"


@dataclass(frozen=True)
class OpenModel:
    """A model ready to run or to train.

    manifest: of the model's own folder. base: manifest of the base that it descends from. full_weights: the folder of
    the weights under an adapter, or the model's own. profile: the device and precision that it was opened for.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    manifest: Manifest
    base: Manifest
    full_weights: Path
    profile: Profile

    @property
    def hidden_size(self) -> int:
        """The width of the residual stream of the text model."""
        return int(self.model.config.get_text_config().hidden_size)


def open_model(folder: Path, base: Path, profile: Profile, *, images: Sequence[Path] = ()) -> OpenModel:
    """The model in ``folder`` on ``profile``'s device, in its dtype, in evaluation mode.

    An adapter goes on weights that are not quantized, though it may have been trained on NF4, so that the evaluated
    model is the served one (docs/decisions/009). images: folders with those that rows name, where the base reads them.
    Raises IntegrityError where a manifest does not verify, or the model was trained on another base.
    """
    return next(open_each([folder], base, profile, images=images))[1]


def open_each(
    folders: Iterable[Path], base: Path, profile: Profile, *, images: Sequence[Path] = ()
) -> Iterator[tuple[Path, OpenModel]]:
    """`open_model` for every folder; models on the same full weights come one after another and share them in memory.

    A model is valid until the next one is requested: its adapter is then taken off the weights.
    """
    verified = [(folder, *_verify(folder, base)) for folder in folders]
    order = list(dict.fromkeys(full_weights for *_, full_weights in verified))
    loaded: Path | None = None
    full: Any = None
    for folder, own, base_manifest, full_weights in sorted(verified, key=lambda entry: order.index(entry[-1])):
        if full_weights != loaded:
            loaded, full = full_weights, None  # free these weights first: two models may not fit
            full = _load_policy(full_weights, profile, images, quantized=False).to(profile.device)
        # In the dtype of the weights under it, as servers hold it: float32 beside bfloat16 takes twice the time.
        model = PeftModel.from_pretrained(full, folder, autocast_adapter_dtype=False) if is_adapter(folder) else full
        yield folder, OpenModel(model.eval(), _tokenizer(folder, model), own, base_manifest, full_weights, profile)
        if isinstance(model, PeftModel):
            model.delete_adapter(model.active_adapter)  # `unload` alone would leave embeddings that it trained
            full = model.unload()


def open_policy(
    folder: Path,
    base: Path,
    profile: Profile,
    kind: WeightsKind,
    lora: Lora | None,
    *,
    vision: Vision = "frozen",
    images: Sequence[Path] = (),
) -> OpenModel:
    """The model in ``folder`` as the start of a training of ``kind``; the errors are `open_model`'s.

    lora: settings of a fresh adapter; ``full`` needs none. An adapter in ``folder`` is trained further, with its own
    rank, and no second one is added; for ``full`` it is merged first. vision: what trains of the part that sees, in a
    base that reads images. images: folders with those that rows name.
    """
    own, base_manifest, full_weights = _verify(folder, base)
    load_as = weights.loading_profile(profile, kind)
    model = _load_policy(full_weights, load_as, images, quantized=kind == "qlora", mixed=profile.bf16)
    vision_parts.prepare(model, vision)
    if is_adapter(folder):
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=kind != "full")
        if kind == "full":
            model = _merged(model)
    elif kind != "full":
        assert lora is not None
        model = weights.add_lora(_on_device(model, profile), lora, vision=vision)
    if kind == "full":
        vision_parts.train_all(model, vision)
    weights.make_trainable_float32(model)
    return OpenModel(_on_device(model, profile), _tokenizer(folder, model), own, base_manifest, full_weights, profile)


def new_reward_model(folder: Path, base: Path, profile: Profile, kind: WeightsKind, lora: Lora) -> OpenModel:
    """The model in ``folder`` with a fresh head that scores a conversation, to be trained as ``kind``.

    The head's initial values follow torch's seed. The errors are `open_model`'s.
    """
    own, base_manifest, full_weights = _verify(folder, base)
    tokenizer = _tokenizer(folder)
    load_as = weights.loading_profile(profile, kind)
    model = _load_scorer(full_weights, load_as, tokenizer, quantized=kind == "qlora", mixed=profile.bf16, is_new=True)
    if is_adapter(folder):
        model = _scoring_adapter(model, folder, profile)
        if kind == "full":
            model = _merged(model)
    elif kind != "full":
        model = weights.add_lora(_on_device(model, profile), lora, task=TaskType.SEQ_CLS)
    if kind == "full":
        model.requires_grad_(True)
    weights.make_trainable_float32(model)
    return OpenModel(_on_device(model, profile), tokenizer, own, base_manifest, full_weights, profile)


def open_reward_model(folder: Path, base: Path, profile: Profile, *, quantized: bool = False) -> OpenModel:
    """A trained reward model, in evaluation mode; ``quantized`` puts an adapter on NF4 weights to save memory."""
    own, base_manifest, full_weights = _verify(folder, base)
    tokenizer = _tokenizer(folder)
    model = _load_scorer(full_weights, profile, tokenizer, quantized=quantized and is_adapter(folder))
    if is_adapter(folder):
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
        weights.make_trainable_float32(model)  # the head as it was trained and measured
    model = _on_device(model, profile).eval().requires_grad_(False)
    return OpenModel(model, tokenizer, own, base_manifest, full_weights, profile)


def is_adapter(folder: Path) -> bool:
    """Whether the model folder holds an adapter rather than full weights."""
    return (folder / ADAPTER).exists()


def _verify(folder: Path, base: Path) -> tuple[Manifest, Manifest, Path]:
    """The manifests of ``folder`` and ``base``, and the folder of the full weights to load, all verified."""
    logging.disable_progress_bar()
    base_manifest = manifest.verify(base)
    if folder == base:
        return base_manifest, base_manifest, base
    own, origin = manifest.verify(folder), lineage.read(folder)
    _check_weights(folder, origin["base"], base, base_manifest)
    if not is_adapter(folder):
        return own, base_manifest, folder
    full_weights = base if origin["on"]["model"] == base.name else folder.parent / origin["on"]["model"]
    if full_weights != base:
        _check_weights(folder, origin["on"], full_weights, manifest.verify(full_weights))
    return own, base_manifest, full_weights


def _check_weights(folder: Path, trained_on: lineage.Digests, present: Path, present_manifest: Manifest) -> None:
    digest, present_digest = trained_on["weights_digest"], present_manifest.weights_digest
    if digest != present_digest:
        raise IntegrityError(
            f"{folder}: trained on a base with weights {digest[:12]}, but {present} has {present_digest[:12]}",
            fix="bring back that base, or train again on this one (`dvc repro`)",
        )


def _load_policy(
    folder: Path, profile: Profile, images: Sequence[Path], *, quantized: bool, mixed: bool = False
) -> PreTrainedModel:
    """A model that answers, from the folder of its full weights, which sees images where its base reads them."""
    sees = processor.reads_images(folder)
    auto_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    model = _load(auto_class, folder, profile, quantized=quantized, mixed=mixed)
    if sees:
        forward.attach(backbone(model), RowImages(folder, images))
    return model


def _load(
    auto_class: type[AutoModelForCausalLM | AutoModelForImageTextToText | AutoModelForSequenceClassification],
    folder: Path,
    profile: Profile,
    *,
    quantized: bool,
    mixed: bool = False,
    **settings: object,
) -> PreTrainedModel:
    """A model of ``auto_class`` from a folder. mixed: whether products are in bfloat16, whatever weights are in."""
    if quantized:
        config = weights.quantization(profile, also_whole=vision_parts.names(folder))
        device = torch.cuda.current_device() if profile.device == "cuda" else profile.device
        settings |= {"quantization_config": config, "device_map": {"": device}}
    if profile.sharded:  # float32 is for weights that train; layers are put together in the dtype of their products
        half = profile.dtype is torch.float32 and mixed
        settings["distributed_config"] = DistributedConfig(fsdp_size=processes.count(), fsdp_mixed_precision=half)
    settings |= {"dtype": profile.dtype, "use_safetensors": True, "trust_remote_code": False}
    model = auto_class.from_pretrained(folder, **settings)
    collectives.join_tied_weights(model)
    if quantized:
        weights.keep_quantized(model)
    return model


def _load_scorer(
    folder: Path,
    profile: Profile,
    tokenizer: PreTrainedTokenizerBase,
    *,
    quantized: bool,
    mixed: bool = False,
    is_new: bool = False,
) -> PreTrainedModel:
    """A model whose head scores a conversation; a new head follows torch's seed. Raises ParamsError without any."""
    processor.check_reads_text(folder)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # transformers warns that the head is missing, which is intended
    try:
        model = _load(
            AutoModelForSequenceClassification, folder, profile, quantized=quantized, mixed=mixed, num_labels=1
        )
    finally:
        logging.set_verbosity(level)
    model.config.pad_token_id = tokenizer.pad_token_id  # the head reads the last token that is not padding
    if is_new:
        _draw_head(model, profile)
    return model


def _draw_head(model: PreTrainedModel, profile: Profile) -> None:
    """Give a scorer a head with new values, whole in every process: it has one row."""
    width, device = model.config.get_text_config().hidden_size, next(model.parameters()).device
    model.score = torch.nn.Linear(width, 1, bias=False, dtype=profile.dtype, device=device)
    with weights.seeded():
        torch.nn.init.normal_(model.score.weight, std=model.config.get_text_config().initializer_range)


def _on_device(model: PreTrainedModel | PeftModel, profile: Profile) -> PreTrainedModel | PeftModel:
    """The model on the profile's device; a 4-bit model was loaded there, and refuses to move, as does a sharded one."""
    return model if profile.sharded or getattr(model, "is_loaded_in_4bit", False) else model.to(profile.device)


def _merged(model: PeftModel) -> PreTrainedModel:
    """The weights with the adapter added, whole or divided among processes."""
    with implicit_replication() if collectives.is_sharded(model) else nullcontext():
        return model.merge_and_unload()


def _scoring_adapter(model: PreTrainedModel, folder: Path, profile: Profile) -> PeftModel:
    """A scorer with a policy's adapter, whatever its kind, and its embedding where that was trained too."""
    policy = load_peft_weights(str(folder), device=profile.device)
    config = LoraConfig.from_pretrained(str(folder))
    config.task_type, config.inference_mode, config.base_model_name_or_path = TaskType.SEQ_CLS, False, None
    if config.modules_to_save:  # all but the output head, which a scorer does not have
        present = {name.split(".")[-1] for name, _ in model.named_modules()}
        config.modules_to_save = [name for name in config.modules_to_save if name in present]
        config.ensure_weight_tying = False
        policy = {name: values for name, values in policy.items() if name.split(".")[-2] not in weights.HEADS}
    adapted = get_peft_model(model, config)
    loaded = set_peft_model_state_dict(adapted, get_peft_model_state_dict(adapted) | policy)
    assert not loaded.unexpected_keys, loaded.unexpected_keys
    return adapted


def _tokenizer(folder: Path, model: PreTrainedModel | PeftModel | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, which reads rows with the images that ``model`` sees."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    parts.give(tokenizer, model and forward.seen_by(backbone(model)))
    return tokenizer
