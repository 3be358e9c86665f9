"""Fixtures: a tiny random chat model and a tokenizer for it, made here, so that tests need no network.

Nothing slow is imported here: with several workers, the process that starts them waits for it too, and needs none.
"""

import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator

# Before any test imports them: no hub, no telemetry, no progress bars.
os.environ |= {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the CPUs
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs have it; tests interrupt processes
    signal.signal(signal.SIGINT, signal.default_int_handler)

from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from replays import PARAMS, Replays

from tunesmith.registry.registered_models import Registry

if TYPE_CHECKING:
    from tiny_model import TokensRead
    from transformers import PreTrainedTokenizerFast

hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("tests")

SLOW_FIRST = ("pipeline", "registry", "training", "evaluation")
"""Folders of the slowest files: begun last, one of them would keep a single worker busy at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files by `SLOW_FIRST`."""
    tests = Path(__file__).parent
    place = {folder: position for position, folder in enumerate(SLOW_FIRST)}
    items.sort(key=lambda item: place.get(item.path.relative_to(tests).parts[0], len(place)))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random chat model as `save_pretrained` leaves it. Not to be written to."""
    from tiny_model import make_model, make_tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    make_model(len(tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a base: fetched, with a manifest. Not to be written to."""
    from tunesmith.core import manifest
    from tunesmith.models.base import base_model
    from tunesmith.models.base_sources import Folder

    out = tmp_path_factory.mktemp("models") / "base"
    digest = manifest.folder_digest(tiny_folder)
    base_model.fetch(Folder(kind="folder", path=tiny_folder, sha256=digest, chat_template=None), out)
    return out


@pytest.fixture(scope="session")
def tied_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with one weight for its embedding and its output head. Not to be written to."""
    from transformers import AutoModelForCausalLM

    from tunesmith.core import manifest

    folder = shutil.copytree(tiny_base, tmp_path_factory.mktemp("tied") / "base")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    manifest.write(folder)
    return folder


@pytest.fixture
def tokenizer() -> "PreTrainedTokenizerFast":
    from tiny_model import SPECIAL, make_tokenizer

    made = make_tokenizer()
    made.pad_token = SPECIAL[0]
    return made


@pytest.fixture
def tokens_read() -> "TokensRead":
    from tiny_model import TokensRead

    return TokensRead()


@pytest.fixture(scope="module", autouse=True)
def loaded_libraries_stay() -> None:
    """Leave what is loaded out of collections of garbage: each trainer makes one, which would take a second."""
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
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


@pytest.fixture(scope="module")
def replays(request: pytest.FixtureRequest, schema: Path, tmp_path_factory: pytest.TempPathFactory) -> Replays:
    """The project that the module's function `prepare` makes."""
    around = tmp_path_factory.mktemp("around")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(around / "replayed" / "config"))
        return Replays(around, schema, request.module.prepare)


@pytest.fixture
def replayed(replays: Replays, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The registry of that project, laid anew, in the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(replays.place / "config"))
    with replays.again() as registry:
        yield registry
