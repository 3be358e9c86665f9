"""Save a model as others open it: safetensors, an adapter's config that names its base, and a card."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tunesmith.core import layout
from tunesmith.core.lineage import Lineage
from tunesmith.models import base_sources, collectives, weights
from tunesmith.models.images import parts, processor
from tunesmith.models.loading import ADAPTER, OpenModel

WEIGHTS = "adapter_model.safetensors"

CARD = "README.md"
SCORES, SEES, WRITES = "ForSequenceClassification", "ForImageTextToText", "ForCausalLM"
"""The ends of the names of the classes that open a reward model, one that reads images, and one of text."""
TASKS = {SCORES: "text-classification", SEES: "image-text-to-text", WRITES: "text-generation"}
"""The hub's names of what a model is for."""


def save_model(model: PreTrainedModel | PeftModel, out: Path, **settings: object) -> None:
    """`save_pretrained` into ``out``. Raises OSError for a full disk, where safetensors raises an error of its own."""
    with _full_disk_is_an_oserror(out), _tied_once(model):
        model.save_pretrained(out, **settings)


def save_reader(policy: OpenModel, out: Path) -> None:
    """Save what turns messages into a model's inputs: the tokenizer with its chat template, and for images the
    processor.
    """
    policy.tokenizer.save_pretrained(out)
    if parts.read_by(policy.tokenizer) is not None:
        processor.copy_files(policy.full_weights, out)


def save_adapter(model: PeftModel, out: Path, origin: Lineage | None, full_weights: Path) -> None:
    """Save the adapter alone, with a config from which peft opens it, base included, from any directory.

    The config names the base at the hub with its commit, or the folder of the weights on this machine where they come
    from elsewhere or ``origin`` is None. Our own loading goes by the lineage's digests and does not read that name.
    """
    # Not the copy that served as the reference; no embeddings, for which peft would look the base up by its name.
    # Of weights that processes divide, peft would gather all, and not only those that it saves.
    own = {"state_dict": weights.trained(model)} if collectives.is_sharded(model) else {}
    save_model(model, out, selected_adapters=["default"], save_embedding_layers=False, **own)
    if weights.is_on_changed_weights(model):
        with _full_disk_is_an_oserror(out):
            tensors = weights.on_unchanged_weights(model, load_file(out / WEIGHTS))
            save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((out / ADAPTER).read_text())
    saved = weights.saved_config(model)
    config |= {"r": saved["r"], "lora_alpha": saved["lora_alpha"]}
    for names in ("target_modules", "modules_to_save"):  # sets, which peft writes in a new order each time
        config[names] = config[names] and sorted(config[names])
    repository = None if origin is None else hub_base(origin)
    config["base_model_name_or_path"], config["revision"] = repository or (str(layout.home() / full_weights), None)
    (out / ADAPTER).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


@contextmanager
def _tied_once(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Save a tied weight of a sharded model under its first name alone, as transformers does with a whole model.

    transformers 5.24 gathers the weight of each name by itself, and so does not see that several are the same.
    """
    if not collectives.is_sharded(model):
        yield
        return
    first = dict(model.named_parameters())
    again = [name for name, _ in model.named_parameters(remove_duplicate=False) if name not in first]

    def leave_out(module: torch.nn.Module, state: dict[str, torch.Tensor], *_: object) -> None:
        for name in again:
            state.pop(name, None)

    hook = model.register_state_dict_post_hook(leave_out)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _full_disk_is_an_oserror(out: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(out)) from None


def hub_base(origin: Lineage) -> tuple[str, str] | None:
    """The repository and the commit of the weights under an adapter; None if they are not at the hub."""
    return base_sources.repository(origin["base"]["source"]) if origin["on"]["model"] == layout.BASE.name else None


def write_card(folder: Path, name: str, origin: Lineage) -> None:
    """Write the card of the model ``name`` into its folder: what it is, how to open it, and what made it.

    It holds nothing that differs between two runs of the same training; scores follow later (`reports.model_card`).
    """
    source, method = origin["base"]["source"], origin["method"]
    is_adapter, is_reward = "on" in origin, method["objective"] == "reward"
    sees = any((folder / file).exists() for file in processor.FILES)
    ending = SCORES if is_reward else SEES if sees else WRITES
    repository = base_sources.repository(source)
    weights = "merged" if "merged" in origin else method["weights"]
    metadata = {
        **({"base_model": repository[0]} if repository else {}),
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": TASKS[ending],
        "tags": ["tunesmith", method["objective"], weights],
        "model_name": name,
    }
    made = {
        "base": {"source": source, "weights_sha256": origin["base"]["weights_digest"]},
        **(
            {"on": {"model": origin["on"]["model"], "weights_sha256": origin["on"]["weights_digest"]}}
            if is_adapter
            else {}
        ),
        "made_from": list(origin["parents"]),
        "rows": {path: {"rows": entry["rows"], "sha256": entry["sha256"]} for path, entry in origin["inputs"].items()},
        "params": origin["params"],
    }
    kinds = {SCORES: "A reward model", SEES: "A language model that reads images", WRITES: "A language model"}
    kind = f"{kinds[ending]}: {method['objective']}, {weights} weights"
    blocks = [
        f"---\n{_yaml(metadata)}---",
        f"# {name}",
        f"{kind}{', an adapter on the weights of ' + origin['on']['model'] if is_adapter else ''}.",
        "## Open it",
        f"```python\n{_opening(name, origin, ending)}\n```",
        "## What made it",
        f"```yaml\n{_yaml(made)}```",
        "`lineage.json` has the rest: code, libraries, hardware, all digests. `training.jsonl` has every step.",
        "## How good it is",
        f"This card was written before the model was judged. `reports/registered/{name}/{CARD}` in its project, also "
        "among the files of its registered version, has its scores, the gate's decision, and its limits.",
    ]
    (folder / CARD).write_text("\n\n".join(blocks) + "\n")


def _opening(name: str, origin: Lineage, ending: str) -> str:
    """The code that opens a model, for its card. ending: of the name of its class."""
    settings = ", num_labels=1" if ending == SCORES else ""
    if ending == SEES:  # for which peft has no class that opens base and adapter at once
        weights = (hub_base(origin) or (origin["on"]["model"],))[0] if "on" in origin else name
        lines = [
            f"from transformers import AutoModel{SEES}, AutoProcessor",
            "",
            f'processor = AutoProcessor.from_pretrained("{name}")',
            f'model = AutoModel{SEES}.from_pretrained("{weights}")',
        ]
        if "on" in origin:
            adapter = f'model = PeftModel.from_pretrained(model, "{name}")'
            lines = ["from peft import PeftModel", *lines, adapter]
        return "\n".join(lines)
    if "on" not in origin:
        opening = f'model = AutoModel{ending}.from_pretrained("{name}"{settings})'
        return f"from transformers import AutoModel{ending}\n\n{opening}"
    lines = [
        f"from peft import AutoPeftModel{ending}",
        "",
        f'model = AutoPeftModel{ending}.from_pretrained("{name}"{settings})',
    ]
    if hub_base(origin) is None:
        lines += [
            "",
            f"# Where the folder that {ADAPTER} names does not exist: on the same weights, wherever they are.",
            "from peft import PeftModel",
            f"from transformers import AutoModel{ending}",
            "",
            f'weights = AutoModel{ending}.from_pretrained("{origin["on"]["model"]}"{settings})',
            f'model = PeftModel.from_pretrained(weights, "{name}")',
        ]
    return "\n".join(lines)


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
