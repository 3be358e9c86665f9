"""Where a project's files are, relative to its root, and the environment variables that its processes exchange."""

from pathlib import Path

MODELS = Path("models")
LOCK = Path("requirements.lock")
BASE = MODELS / "base"
RAW = Path("data/raw")
HELD_OUT = Path("data/held_out")
TASKS = Path("data/tasks")
READY = Path("data/ready")
IMAGES = "images"
"""The folder of the images of ready rows, beside them."""
QUARANTINE = Path("data/quarantine")
REFERENCE = Path("data/reference")
BASELINE = Path("data/baseline/answers.jsonl")
REPORTS = Path("reports")
DATA_REPORTS = REPORTS / "data"
MIXTURE_REPORTS = REPORTS / "mixtures"
EVALUATION = REPORTS / "evaluation"
REGISTERED = REPORTS / "registered"
CHECKPOINTS = Path("build/checkpoints")
"""The checkpoints of trainings that are not done: of the host and of containers apart, by model and training."""
EXPERIMENTS = (".dvc", "tmp", "exps")
"""The folder in which DVC runs queued and temporary experiments, each in a copy of the project that it then removes."""

RUN_VARIABLE = "TUNESMITH_RUN"
"""The UUID of this run of a stage, from which the key of a training's journal follows (`journal.key`)."""
CODE_VARIABLE = "TUNESMITH_CODE"
"""The commit of the code (`lineage.Code` as JSON), for a container, which has no git."""
IMAGE_DIGEST_VARIABLE = "TUNESMITH_IMAGE_DIGEST"
"""The digest of the image that a stage runs in."""
CHECKPOINT_VARIABLE = "TUNESMITH_CHECKPOINT_SECONDS"
"""Seconds between the checkpoints of a training, where params.yaml sets `runtime.checkpoint_minutes`."""
RERUN_VARIABLE = "TUNESMITH_RERUN"
"""Set to run stages even where outputs of the same inputs are recorded: `tunesmith reproduce` must compute anew."""
PARTIAL_VARIABLE = "TUNESMITH_PARTIAL"
"""Set in a work tree that holds the inputs of some stages alone, so that files of other data sets may be absent."""


def holds_outputs(folder: Path) -> bool:
    """Return whether stages write into a folder of the project in the working folder, so that none may depend on it."""
    here = folder.resolve()
    written = (MODELS, READY, QUARANTINE, REFERENCE, BASELINE, REPORTS, CHECKPOINTS)
    return any(path.resolve().is_relative_to(here) for path in written)


def home(root: Path | None = None) -> Path:
    """The project's root, absolute; in a copy in which DVC runs an experiment, the root of the original.

    root: of the project or the copy, absolute; by default this process's folder.
    """
    here = root or Path.cwd()
    for i in range(len(here.parts)):
        if here.parts[i : i + len(EXPERIMENTS)] == EXPERIMENTS:
            return Path(*here.parts[:i])
    return here


def split(dataset: str, name: str) -> Path:
    """The ready rows of a data set's split: train, validation or test."""
    return READY / dataset / f"{name}.jsonl"


def images(dataset: str) -> Path:
    """The folder with the images of a data set's ready rows; without any, there is none."""
    return READY / dataset / IMAGES


def image(folder: Path, digest: str) -> Path:
    """An image of the ready rows in ``folder``, by the digest in its part; without a file of it, the name of a PNG."""
    jpeg = folder / IMAGES / f"{digest}.jpg"
    return jpeg if jpeg.is_file() else jpeg.with_suffix(".png")
