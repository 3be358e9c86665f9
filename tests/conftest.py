"""Fixtures: a tiny random chat model and a tokenizer for it, made here, so that tests need no network."""

import gc
import os
import shutil
import sys

# Before any test imports them: no hub, no telemetry, no progress bars.
os.environ |= {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the CPUs
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.chat_templates import CHATML

hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("tests")

SLOW_FIRST = ("pipeline", "registry", "training", "evaluation")
"""Folders of the slowest files: begun last, one of them would keep a single worker busy at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files by `SLOW_FIRST`."""
    tests = Path(__file__).parent
    place = {folder: position for position, folder in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: place.get(item.path.relative_to(tests).parts[0], len(place)))


SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with ChatML, whose pad token is its end of turn, as GGUF conversions have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["user assistant system What is 12 + 34? 46"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        chat_template=CHATML,
    )


def make_model(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random chat model as `save_pretrained` leaves it. Not to be written to."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    make_model(len(tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a base: fetched, with a manifest. Not to be written to."""
    from tunesmith.core import manifest
    from tunesmith.models import base_model
    from tunesmith.models.base_sources import Folder

    out = tmp_path_factory.mktemp("models") / "base"
    digest = manifest.folder_digest(tiny_folder)
    base_model.fetch(Folder(kind="folder", path=tiny_folder, sha256=digest, chat_template=None), out)
    return out


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    made = make_tokenizer()
    made.pad_token = SPECIAL[0]
    return made


class TokensRead:
    """Counts the tokens that go through a model, padding included: an entry for every model it is put on."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, policy: Any) -> None:
        self.counts.append(0)
        layer = next(module for name, module in policy.model.named_modules() if name.endswith("layers.0"))
        layer.register_forward_hook(self._count)

    def _count(self, layer: Any, given: tuple[torch.Tensor, ...], output: Any) -> None:
        self.counts[-1] += given[0].shape[0] * given[0].shape[1]


@pytest.fixture
def tokens_read() -> TokensRead:
    return TokensRead()


@pytest.fixture(scope="module", autouse=True)
def loaded_libraries_stay() -> None:
    """Leave what is loaded out of the collections of garbage that trainers make: each would take a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_precision_left_over() -> None:
    """Accelerate keeps the first trainer's precision for all that follow in a process; a stage has one trainer."""
    if "accelerate.state" in sys.modules:
        sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry database, made once: MLflow takes seconds to lay it out."""
    from tunesmith.registry.registered_models import Registry

    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        patch.setattr(Registry, "creates_database", True)
        Registry()
    return path


@pytest.fixture
def project(schema: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with params, a registry of its own, and a signing key of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    shutil.copy(schema, tmp_path / "mlflow.db")
    (tmp_path / "params.yaml").write_text("registry: {experiment: arithmetic, model: calculator}\n")
    return tmp_path
