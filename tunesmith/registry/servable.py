"""Can a model folder be served? Read off its files before it is registered, instead of from a server that refuses it.

Servers take less than peft trains. vLLM refuses modules saved whole, DoRA, biases and ranks over its limit, and scales
every layer by the one rank and alpha of the config, so that patterns of them would be served wrong without a word. A
config is not believed: ranks and names of tensors are read from the safetensors' headers.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tunesmith.core import lineage, manifest
from tunesmith.core.errors import RegistryError

ADAPTER, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SIDES = {".lora_A.weight": 0, ".lora_B.weight": 1}
"""How the tensors of a linear layer's adapter end: A: (rank, in), B: (out, rank); and which axis is the rank."""
UNSERVED = {
    "modules_to_save": "saves whole modules",
    "lora_bias": "trains biases",
    "trainable_token_indices": "trains single tokens",
    "target_parameters": "adapts parameters that are no layer's weight",
    "rank_pattern": "has another rank by layer",
    "alpha_pattern": "has another alpha by layer",
    "layer_replication": "repeats layers",
    **dict.fromkeys(("use_dora", "use_qalora", "use_bdlora"), "is a variant of LoRA"),
    **dict.fromkeys(("alora_invocation_tokens", "arrow_config", "kasa_config"), "is a variant of LoRA"),
    "monteclora_config": "is a variant of LoRA",
}
"""Fields of peft's LoraConfig that must be off, and what an adapter does where they are on."""

MERGE = "merge it (package.merged in params.yaml; `tunesmith check` says what dvc.yaml needs) and register that"
AGAIN = "train it again on this base (`dvc repro`)"


@dataclass(frozen=True)
class Reason:
    text: str
    fix: str


def check(folder: Path, base: Path, on: Path | None, max_rank: int) -> None:
    """Raise RegistryError, with every reason and what to do, where the model in ``folder`` cannot be served.

    on: the full weights that an adapter is to be served on, where those are not the base's. max_rank: the highest rank
    of LoRA that the server is started for. Raises IntegrityError where files are not those that the manifest names;
    weights are not hashed here.
    """
    found = reasons(folder, base, on, max_rank)
    if found:
        raise RegistryError(
            f"{folder} cannot be served:" + "".join(f"\n  - {reason.text}" for reason in found),
            fix="; ".join(dict.fromkeys(reason.fix for reason in found)),
        )


def reasons(folder: Path, base: Path, on: Path | None, max_rank: int) -> list[Reason]:
    """Every reason against serving it; none where it can be. The rest is as in `check`."""
    manifest.verify(folder, weights=False)
    origin = _read(folder / lineage.NAME)
    adapter = (folder / ADAPTER).exists()
    under = (on or base) if adapter else folder
    found = [*_base(origin, base), *_speech(folder, base), *_vocabulary(folder, under, adapter)]
    if adapter:
        return [*found, *_on(origin, base, on), *_config(folder, max_rank), *_tensors(folder, max_rank)]
    scorers = [name for name in _read(folder / "config.json").get("architectures") or [] if "Classification" in name]
    return [*found, *(Reason(f"it scores, and answers nothing ({name})", "register a policy") for name in scorers)]


def _base(origin: dict[str, Any], base: Path) -> Iterator[Reason]:
    trained, found = _digest(origin, "base"), manifest.read(base).weights_digest
    if trained != found:
        yield Reason(f"it was trained on a base with weights {trained[:12]}, and {base} has {found[:12]}", AGAIN)


def _on(origin: dict[str, Any], base: Path, on: Path | None) -> Iterator[Reason]:
    """The weights it would be put on must be those it was trained on."""
    trained, found = _digest(origin, "on"), manifest.read(on or base).weights_digest
    if trained == found:
        return
    if on is None:
        name = origin["on"].get("model")
        yield Reason(f"it is an adapter on the weights of {name}, not on the base's", f"serve it on those, or {MERGE}")
    else:
        yield Reason(f"it is an adapter on weights {trained[:12]}, and {on} has {found[:12]}", AGAIN)


def _speech(folder: Path, base: Path) -> Iterator[Reason]:
    """All that decides how messages become tokens must be what it was trained and evaluated with (`chat`)."""
    ours, theirs = _template(folder), _template(base)
    for part in ours:
        if ours[part] != theirs[part]:
            yield Reason(f"its {part} is not the base's, with which it was evaluated", AGAIN)


def _template(folder: Path) -> dict[str, Any]:
    config, file = _read(folder / "tokenizer_config.json"), folder / "chat_template.jinja"
    template = file.read_text() if file.exists() else config.get("chat_template")
    tokens = {f"{name} token": config.get(f"{name}_token") for name in ("bos", "eos", "pad")}
    return {"chat template": template} | {
        name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()
    }


def _vocabulary(folder: Path, under: Path, adapter: bool) -> Iterator[Reason]:
    """Every token must have its row in the embedding, and with an adapter be the token of the weights under it."""
    config, ids = _read(under / "config.json"), _ids(folder)
    rows = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    highest = max(ids.values(), default=-1)
    if isinstance(rows, int) and highest >= rows:
        yield Reason(f"its tokenizer knows ids up to {highest}, and the embedding has {rows} rows", AGAIN)
    if adapter and (others := len(ids.items() ^ _ids(under).items())):
        yield Reason(f"its tokenizer is another than that of the weights it is on ({others} entries differ)", MERGE)


def _ids(folder: Path) -> dict[str, int]:
    """Tokens with their ids, as tokenizer.json has them; empty for a tokenizer of another kind."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return {}
    stated = _read(path)
    try:
        words = stated["model"]["vocab"]  # of Unigram a list of tokens with their scores, else ids by token
        ids = dict(words) if isinstance(words, dict) else {word: index for index, (word, _) in enumerate(words)}
        return ids | {token["content"]: token["id"] for token in stated.get("added_tokens", [])}
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(f"{path}: not a tokenizer's ({error!r})", fix=AGAIN) from None


def _config(folder: Path, max_rank: int) -> Iterator[Reason]:
    config = _read(folder / ADAPTER)
    if config.get("peft_type") != "LORA":
        yield Reason(f"it is an adapter of kind {config.get('peft_type')}, not LoRA", MERGE)
    if config.get("task_type") != "CAUSAL_LM":
        yield Reason(f"it is for {config.get('task_type')}, and answers nothing", "register a policy")
    for field, what in UNSERVED.items():
        if config.get(field):
            yield Reason(f"it {what} ({field})", MERGE)
    if config.get("bias", "none") != "none":
        yield Reason(f"it trains biases (bias: {config['bias']})", MERGE)
    if isinstance(rank := config.get("r"), int) and rank > max_rank:
        yield _over(rank, max_rank)


def _tensors(folder: Path, max_rank: int) -> Iterator[Reason]:
    """What the adapter really holds, whatever its config says."""
    others = sorted(path.name for path in folder.rglob("*.safetensors") if path != folder / WEIGHTS)
    if others:
        yield Reason(f"beside the adapter it holds other weights: {', '.join(others[:3])}", "take them out")
    shapes, stated = _shapes(folder / WEIGHTS), _read(folder / ADAPTER).get("r")
    foreign = [name for name, shape in shapes.items() if len(shape) != 2 or not name.endswith(tuple(SIDES))]
    if foreign:
        yield Reason(f"it holds {len(foreign)} tensors that no LoRA of a linear layer has: {foreign[0]}", MERGE)
    linear = {name: shape for name, shape in shapes.items() if name not in foreign}
    ranks = sorted({shape[axis] for name, shape in linear.items() for end, axis in SIDES.items() if name.endswith(end)})
    if ranks != [stated]:
        told = ", ".join(map(str, ranks)) or "none"
        yield Reason(f"{ADAPTER} says rank {stated}, its tensors have {told}", "train it again: it is not what it says")
    if stated not in ranks and ranks and ranks[-1] > max_rank:
        yield _over(ranks[-1], max_rank)


def _over(rank: int, limit: int) -> Reason:
    return Reason(f"its rank {rank} is over serve.max_lora_rank: {limit}", f"raise that in params.yaml, or {MERGE}")


def _shapes(path: Path) -> dict[str, list[int]]:
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RegistryError(f"{path}: not readable as safetensors ({error})", fix=AGAIN) from None


def _digest(origin: dict[str, Any], which: str) -> str:
    try:
        return str(origin[which]["weights_digest"])
    except (KeyError, TypeError):
        raise RegistryError(f"{lineage.NAME} does not say on which weights it was trained", fix=AGAIN) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RegistryError(f"{path}: not readable ({error})", fix=AGAIN) from None
    if not isinstance(found, dict):
        raise RegistryError(f"{path}: not a JSON object", fix=AGAIN)
    return found
