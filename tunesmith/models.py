"""Open a model folder: verified, on its own base, never anything else."""

from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from tunesmith import lineage, manifest
from tunesmith.device import Profile
from tunesmith.errors import IntegrityError
from tunesmith.manifest import Manifest


@dataclass(frozen=True)
class OpenModel:
    """A model ready to run, with the manifests of its own folder and of its base."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    manifest: Manifest
    base: Manifest


def open_model(folder: Path, base: Path, profile: Profile) -> OpenModel:
    """The model in ``folder`` (an adapter, or the base itself) on ``profile``'s device, in evaluation mode.

    Raises IntegrityError where a manifest does not verify, or the adapter was trained on another base.
    """
    logging.disable_progress_bar()
    stated = manifest.verify(base)
    own = stated
    if folder != base:
        own = manifest.verify(folder)
        _check_base(folder, base, stated)
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=profile.dtype, use_safetensors=True, trust_remote_code=False
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if folder != base:
        model = PeftModel.from_pretrained(model, str(folder))
    return OpenModel(model.to(profile.device).eval(), tokenizer, own, stated)


def _check_base(folder: Path, base: Path, stated: Manifest) -> None:
    trained_on = lineage.read(folder)["base"]["weights_digest"]
    if trained_on != stated.weights_digest:
        raise IntegrityError(
            f"{folder}: trained on a base with weights {trained_on[:12]}, but {base} has {stated.weights_digest[:12]}",
            fix="bring back that base, or train again on this one (`dvc repro`)",
        )
