"""Check, before a model folder is registered, that an inference server can serve it.

Servers support less than peft trains (`models.servable_adapter`). The config is not trusted: ranks and names of tensors
are read from the safetensors headers.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tunesmith.core import lineage, manifest
from tunesmith.core.errors import RegistryError
from tunesmith.models import servable_adapter
from tunesmith.models.servable_adapter import MERGE, Reason, rank_over_limit

ADAPTER, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Json = dict[str, Any]
"""A JSON object that another library wrote."""
RANK_AXES = {".lora_A.weight": 0, ".lora_B.weight": 1}
"""The axis of the rank, by the suffix of the tensor's name. Shapes: A (rank, in), B (out, rank)."""
AGAIN = "train it again on this base (`dvc repro`)"


def check(folder: Path, base: Path, on: Path | None, max_rank: int) -> None:
    """Raise RegistryError with every reason and fix if the model in ``folder`` cannot be served.

    on: the folder of the full weights under an adapter, if not the base. max_rank: the highest LoRA rank that the
    server supports. Raises IntegrityError if files are not those of the manifest; weights are not hashed here.
    """
    if problems := reasons(folder, base, on, max_rank):
        raise RegistryError(
            f"{folder} cannot be served:" + "".join(f"\n  - {reason.text}" for reason in problems),
            fix="; ".join(dict.fromkeys(reason.fix for reason in problems)),
        )


def reasons(folder: Path, base: Path, on: Path | None, max_rank: int) -> list[Reason]:
    """List every reason against serving the model. Arguments and IntegrityError are as in `check`."""
    manifest.verify(folder, weights=False)
    origin = _read(folder / lineage.NAME)
    adapter = (folder / ADAPTER).exists()
    under = (on or base) if adapter else folder
    problems = [
        *_check_base(origin, base),
        *_check_template(folder, base),
        *_check_end_of_turn(folder, under),
        *_check_tokens(folder, under, adapter),
    ]
    if adapter:
        return [
            *problems,
            *_check_weights_under(origin, base, on),
            *servable_adapter.reasons(_read(folder / ADAPTER), max_rank),
            *_check_tensors(folder, max_rank),
        ]
    scorers = [name for name in _read(folder / "config.json").get("architectures") or [] if "Classification" in name]
    return [*problems, *(Reason(f"it scores instead of answering ({name})", "register a policy") for name in scorers)]


def _check_base(origin: Json, base: Path) -> Iterator[Reason]:
    trained, actual = _digest(origin, "base"), manifest.read(base).weights_digest
    if trained != actual:
        yield Reason(f"it was trained on a base with weights {trained[:12]}, and {base} has {actual[:12]}", AGAIN)


def _check_weights_under(origin: Json, base: Path, on: Path | None) -> Iterator[Reason]:
    """An adapter must be served on the weights that it was trained on."""
    trained, actual = _digest(origin, "on"), manifest.read(on or base).weights_digest
    if trained == actual:
        return
    if on is None:
        name = origin["on"].get("model")
        yield Reason(f"it is an adapter on the weights of {name}, not on the base's", f"serve it on those, or {MERGE}")
    else:
        yield Reason(f"it is an adapter on weights {trained[:12]}, and {on} has {actual[:12]}", AGAIN)


def _check_template(folder: Path, base: Path) -> Iterator[Reason]:
    """The chat template and special tokens must be those of the training and the evaluation (`models.chat`)."""
    own, expected = _template(folder), _template(base)
    for part in own:
        if own[part] != expected[part]:
            yield Reason(f"its {part} is not the base's, with which it was evaluated", AGAIN)


def _check_end_of_turn(folder: Path, under: Path) -> Iterator[Reason]:
    """Servers stop at the tokens of the generation config, which must include the end of turn that was trained."""
    path, config, end = under / "generation_config.json", _read(under / "config.json"), _template(folder)["eos token"]
    stops = (_read(path) if path.exists() else config.get("text_config", config)).get("eos_token_id")
    ids = _ids(folder)
    if ids and ids.get(str(end)) not in (stops if isinstance(stops, list) else [stops]):
        yield Reason(f"{path} does not stop at its end of turn, {end}", "fetch the base again (`dvc repro fetch_base`)")


def _template(folder: Path) -> dict[str, object]:
    config, file = _read(folder / "tokenizer_config.json"), folder / "chat_template.jinja"
    template = file.read_text() if file.exists() else config.get("chat_template")
    tokens = {f"{name} token": config.get(f"{name}_token") for name in ("bos", "eos", "pad")}
    return {"chat template": template} | {
        name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()
    }


def _check_tokens(folder: Path, under: Path, adapter: bool) -> Iterator[Reason]:
    """Every token needs a row of the embedding; an adapter's tokens must be those of the weights under it."""
    config, ids = _read(under / "config.json"), _ids(folder)
    rows = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    highest = max(ids.values(), default=-1)
    if isinstance(rows, int) and highest >= rows:
        yield Reason(f"its tokenizer has ids up to {highest}, and the embedding has {rows} rows", AGAIN)
    if adapter and (others := len(ids.items() ^ _ids(under).items())):
        yield Reason(f"its tokenizer is not that of the weights it is on ({others} entries differ)", MERGE)


def _ids(folder: Path) -> dict[str, int]:
    """Return the ids of all tokens in tokenizer.json; empty for a tokenizer without that file."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return {}
    tokenizer = _read(path)
    try:
        vocabulary = tokenizer["model"]["vocab"]  # Unigram: a list of (token, score); otherwise ids by token
        if not isinstance(vocabulary, dict):
            vocabulary = {token: index for index, (token, _) in enumerate(vocabulary)}
        ids: dict[str, int] = vocabulary | {
            token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])
        }
        return ids
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(f"{path}: not a tokenizer ({error!r})", fix=AGAIN) from None


def _check_tensors(folder: Path, max_rank: int) -> Iterator[Reason]:
    """The tensors themselves must be those of a plain LoRA with the rank of the config."""
    others = sorted(path.name for path in folder.rglob("*.safetensors") if path != folder / WEIGHTS)
    if others:
        yield Reason(f"beside the adapter it holds other weights: {', '.join(others[:3])}", "remove them")
    shapes, config_rank = _shapes(folder / WEIGHTS), _read(folder / ADAPTER).get("r")
    foreign = [name for name, shape in shapes.items() if len(shape) != 2 or not name.endswith(tuple(RANK_AXES))]
    if foreign:
        yield Reason(
            f"it holds {len(foreign)} tensors that are not LoRA weights of a linear layer: {foreign[0]}", MERGE
        )
    linear = {name: shape for name, shape in shapes.items() if name not in foreign}
    ranks = sorted(
        {shape[axis] for name, shape in linear.items() for end, axis in RANK_AXES.items() if name.endswith(end)}
    )
    if ranks != [config_rank]:
        actual = ", ".join(map(str, ranks)) or "none"
        yield Reason(f"{ADAPTER} says rank {config_rank}, its tensors have {actual}", "train it again: they must agree")
    if config_rank not in ranks and ranks and ranks[-1] > max_rank:
        yield rank_over_limit(ranks[-1], max_rank)


def _shapes(path: Path) -> dict[str, list[int]]:
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RegistryError(f"{path}: cannot be read as safetensors ({error})", fix=AGAIN) from None


def _digest(origin: Json, part: str) -> str:
    try:
        return str(origin[part]["weights_digest"])
    except (KeyError, TypeError):
        raise RegistryError(f"{lineage.NAME} does not say on which weights it was trained", fix=AGAIN) from None


def _read(path: Path) -> Json:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RegistryError(f"{path}: cannot be read ({error})", fix=AGAIN) from None
    if not isinstance(value, dict):
        raise RegistryError(f"{path}: not a JSON object", fix=AGAIN)
    return value
