"""The files around a model folder that make it a model for MLflow: MLmodel, its requirements, and a tokenizer.

`mlflow.transformers.save_model` would write them too, but only from a model in memory for an adapter, and after copying
all weights for a full model. So the flavor's fields are written here, through MLflow's classes; a test loads the result
with `mlflow.transformers.load_model` and `mlflow.pyfunc.load_model`.
"""

import fnmatch
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import yaml

from tunesmith.core import layout, lineage
from tunesmith.core.lineage import Lineage
from tunesmith.registry.logged_models import MODEL_FOLDER, LoggedModel

TOKENIZER_FOLDER, PROCESSOR_FOLDER = "components/tokenizer", "components/processor"
"""The places where MLflow looks for the tokenizer and the processor, among the files of a logged model."""
TOKENIZER_FILES = (
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
)
PROCESSOR_FILES = ("*processor_config.json",)
"""The files that a processor has beside those of its tokenizer; only models that read images have them."""
CONFIG = "config.json"
TASK, CHAT = "text-generation", "llm/v1/chat"
"""The task of transformers' pipeline, and MLflow's task that takes messages and renders them by the chat template."""
WRITES: dict[str, object] = {
    "task": TASK,
    "inference_task": CHAT,
    "instance_type": "TextGenerationPipeline",
    "pipeline_model_type": "AutoModelForCausalLM",
}
SEES: dict[str, object] = {
    "task": "image-text-to-text",
    "instance_type": "ImageTextToTextPipeline",
    "pipeline_model_type": "AutoModelForImageTextToText",
    "processor_type": "AutoProcessor",
}
"""Fields of the flavor for models that write, and for those that read images too."""
LIBRARIES = ("torch", "transformers", "accelerate", "peft")
"""The libraries of a lineage that loading a model takes."""


@dataclass(frozen=True)
class Loading:
    """How MLflow's transformers flavor opens a model folder."""

    fields: dict[str, object]
    """The fields of the flavor that name the weights."""
    dtype: str
    """The dtype that the model was evaluated in, such as "bfloat16"."""
    python: str
    """The version of Python that the model was trained with."""
    requirements: tuple[str, ...]
    """The pinned libraries, as pip takes them."""
    weights_under: Path | None = None
    """The folder of the full weights under an adapter."""


def loading(origin: Lineage, weights_under: Path | None, dtype: str) -> Loading:
    """How to open a model with this lineage. weights_under: the folder of the full weights under an adapter, if any.

    An adapter on a hub's base names repository and commit. On a local base, or on another model's full weights, it
    names their folder here; elsewhere `mlflow.transformers.load_model` takes `base_model_path`.
    """
    versions = origin["environment"]["libraries"]
    requirements = [f"{name}=={versions[name].partition('+')[0]}" for name in LIBRARIES if name in versions]
    fields: dict[str, object] = {"model_binary": MODEL_FOLDER}
    if weights_under is not None:
        fields = {"peft_adaptor": MODEL_FOLDER, **_base(weights_under)}
    return Loading(fields, dtype, origin["environment"]["python"], tuple(requirements), weights_under)


def _base(folder: Path) -> dict[str, object]:
    pin = cast("dict[str, object]", lineage.read(folder).get("params", {})) if folder == layout.BASE else {}
    if pin.get("kind") == "hub" and not pin.get("chat_template"):
        repo, commit = pin["repo"], pin["commit"]
        return {
            "source_model_name": repo,
            "source_model_revision": commit,
            "tokenizer_name": repo,
            "tokenizer_revision": commit,
            **({"processor_name": repo, "processor_revision": commit} if _reads_images(folder) else {}),
        }
    return {"source_model_name": folder.name, "local_base_model_path": str((layout.home() / folder).resolve())}


def write(into: Path, logged: LoggedModel, folder: Path, loading: Loading) -> None:
    """Write the files around the model folder ``folder`` into an empty folder.

    A model that reads images is one for `mlflow.transformers` alone, since pyfunc takes no processor.
    """
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA

    created = datetime.fromtimestamp(logged.created / 1000, UTC).replace(tzinfo=None)
    model = Model(
        artifact_path=logged.address,
        run_id=logged.run,
        model_id=logged.id,
        model_uuid=logged.id,
        utc_time_created=created,
        signature=ModelSignature(inputs=CHAT_MODEL_INPUT_SCHEMA, outputs=CHAT_MODEL_OUTPUT_SCHEMA),
        metadata={"task": CHAT},
        model_size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )
    sees = _reads_images(folder)
    model.add_flavor(
        "transformers",
        **(SEES if sees else WRITES),
        components=["tokenizer"],
        tokenizer_type="AutoTokenizer",
        torch_dtype=f"torch.{loading.dtype}",
        code=None,
        **loading.fields,
    )
    environment = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    pyfunc = {"loader_module": "mlflow.transformers", "python_version": loading.python, "env": environment}
    if not sees:
        model.add_flavor("python_function", **pyfunc)
    model.save(into / "MLmodel")
    requirements = [f"mlflow=={mlflow.__version__}", *loading.requirements]
    (into / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))
    python = {"python": loading.python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (into / environment["virtualenv"]).write_text(yaml.safe_dump(python))
    packages = [f"python={loading.python}", "pip", {"pip": requirements}]
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": packages}
    (into / environment["conda"]).write_text(yaml.safe_dump(conda))
    if "tokenizer_name" not in loading.fields:
        _copy(folder, into / TOKENIZER_FOLDER, TOKENIZER_FILES)
        if sees:
            _copy(folder, into / PROCESSOR_FOLDER, TOKENIZER_FILES + PROCESSOR_FILES)
            # It names the model whose processor this is. Without it, AutoProcessor may open the tokenizer alone, and
            # the model would answer without its images.
            shutil.copyfile((loading.weights_under or folder) / CONFIG, into / PROCESSOR_FOLDER / CONFIG)


def task(folder: Path) -> str:
    """What the hub calls the use of the model in a folder."""
    return str((SEES if _reads_images(folder) else WRITES)["task"])


def _reads_images(folder: Path) -> bool:
    return any(path for pattern in PROCESSOR_FILES for path in folder.glob(pattern))


def _copy(folder: Path, into: Path, patterns: tuple[str, ...]) -> None:
    into.mkdir(parents=True)
    for path in folder.iterdir():
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns):
            shutil.copyfile(path, into / path.name)
