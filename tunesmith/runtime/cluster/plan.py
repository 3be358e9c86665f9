"""What a stage becomes on a cluster: a job, its parts where it is divided, and the parcel that travels for it.

The parcel has the code that the stage's fingerprint names, its effective params, and facts of its lineage; all else
that a stage reads is data, which goes by digest. It becomes the working folder of the job's processes, by Ray's own
means: Ray names it by its content, and a node that has it does not take it again.
"""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tunesmith.core import dvc_store, fingerprint, layout, lineage, manifest, params
from tunesmith.core.dvc_project import Stage
from tunesmith.core.dvc_store import Address
from tunesmith.core.errors import ParamsError
from tunesmith.runtime import stage_lookup
from tunesmith.runtime.cluster import evaluation_shares
from tunesmith.runtime.cluster.job import Job, Saved
from tunesmith.runtime.ranks import launch
from tunesmith.runtime.settings import Runtime

EVALUATE, PREPARE = "stages.evaluate", "stages.prepare_data"
PASSED = ("TERM", "COLUMNS")
"""Variables that a stage inherits from home, where they are set."""
NODE = ("node.py", "node_report.py", "spread_rows.py", "tasks.py", "tied.py", "training.py")
"""The modules of this package that run on the nodes."""
FACTS = (params.PATH, layout.LOCK, Path("dvc.lock"))
"""Files that a stage copies into a model's lineage."""
BUILD = Path("build")
"""The folder of fingerprints and effective params."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a parcel, so that the same files make the same bytes."""


def model(stage: Stage) -> str | None:
    """The model that a stage trains; None for another stage."""
    models = [out.name for out in stage.outs if out.parent == layout.MODELS]
    return models[0] if stage.target.startswith("train_") and models else None


def spreads(job: Job) -> bool:
    """Whether a stage spreads its own work over the cluster."""
    return job.module == PREPARE


def parcel_files(stage: Stage, root: Path) -> dict[str, Path]:
    """All files of the archive that travels for a stage: its own, and those of the processes that run it."""
    name, *_ = stage_lookup.words(stage)
    return node_files() | stage_files(stage, f"stages.{name}", root)


def stage_files(stage: Stage, module: str, root: Path) -> dict[str, Path]:
    """The files of a stage's workspace that travel in its parcel, by their path there.

    They are the module of the stage and all that it imports, the fingerprint and the params that it declares in
    dvc.yaml, and FACTS where they exist.
    """
    code = fingerprint.closure([fingerprint.STAGES / f"{module.removeprefix('stages.')}.py"])
    declared = [path for path in stage.deps if path.is_relative_to(BUILD)]
    others = [path for path in (*declared, *FACTS) if (root / path).is_file()]
    return _with_packages(code) | {path.as_posix(): root / path for path in others}


def node_files() -> dict[str, Path]:
    """The files of the processes that run a stage on a node, by their path in the parcel."""
    folder = Path(__file__).parent
    return _with_packages(fingerprint.closure([folder / name for name in NODE]))


def write(path: Path, files: dict[str, Path]) -> int:
    """Write an archive, the same bytes for the same files; return its size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name].read_bytes())
    return path.stat().st_size


def job(stage: Stage, runtime: Runtime, root: Path, address: Address, run: str, saved: Saved) -> tuple[Job, list[Job]]:
    """The job of a stage, and its parts: one, or a share of the models each.

    Raises ParamsError for a training whose workers would not have a GPU each.
    """
    name, *arguments = stage_lookup.words(stage)
    module = f"stages.{name}"
    read = [path for path in stage.deps if not path.is_relative_to(BUILD)]
    paths = [*read, *_images(read), *_kept(stage, root)]
    files = stage_files(stage, module, root) | (node_files() if module == PREPARE else {})
    whole = Job(
        target=stage.target,
        module=module,
        arguments=tuple(arguments),
        run=run,
        store=address,
        inputs={name: digest for name, digest in dvc_store.tree(root, paths).items() if _is_read(name, module)},
        outs=tuple(out.as_posix() for out in stage.outs),
        model=model(stage),
        code=tuple(files),
        variables=_variables(runtime),
        cpus=runtime.worker_cpus,
        gpus=runtime.gpus_per_worker,
        workers=runtime.workers,
        restarts=runtime.restarts,
        terminal=_terminal(),
        grace=runtime.grace,
        checkpoints=saved,
    )
    if whole.model and not launch.asks_vllm(name, arguments):
        _check_gpus(runtime)
    if module != EVALUATE:
        return whole, [whole]
    shares = evaluation_shares.divide(evaluation_shares.models(root), root, runtime.workers)
    parts = [whole.part(tuple(share), evaluation_shares.inputs(share, whole.inputs, root)) for share in shares]
    return whole, parts


def _is_read(name: str, module: str) -> bool:
    """Whether a stage reads a file of its inputs: `prepare_data` needs the base's tokenizer, and no weights."""
    path = Path(name)
    return not (module == PREPARE and path.suffix == manifest.WEIGHTS and path.is_relative_to(layout.BASE))


def _check_gpus(runtime: Runtime) -> None:
    """Raise ParamsError unless each worker of a training has one GPU, none, or, where it is alone, a part of one."""
    gpus = runtime.gpus_per_worker
    if gpus > 1 or (0 < gpus < 1 < runtime.workers):
        raise ParamsError(
            f"params.yaml: runtime.gpus_per_worker is {gpus:g}, and each worker of a training has a GPU of its own",
            fix="set it to 1, and runtime.workers to the number of GPUs",
        )


def _images(paths: list[Path]) -> list[Path]:
    """The folders of the images that rows among these files name by digest, whether they are there or not."""
    rows = [path for path in paths if path.is_relative_to(layout.READY) and path.suffix == ".jsonl"]
    return list(dict.fromkeys(path.parent / layout.IMAGES for path in rows))


def _kept(stage: Stage, root: Path) -> list[Path]:
    """The outputs of an earlier run that a stage updates in place: the reports that may still hold."""
    return [out for out in stage.outs if out.is_relative_to(layout.REPORTS) and (root / out).is_dir()]


def _variables(runtime: Runtime) -> dict[str, str]:
    image = {layout.IMAGE_DIGEST_VARIABLE: runtime.image} if runtime.image else {}
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {**passed, **image, **runtime.environment, layout.CODE_VARIABLE: json.dumps(lineage.code())}


def _terminal() -> tuple[int, int] | None:
    size = shutil.get_terminal_size()
    return (size.lines, size.columns) if sys.stdout.isatty() else None


def _with_packages(code: Iterable[Path]) -> dict[str, Path]:
    """Modules by their path in a workspace, with the `__init__` of the packages that hold them."""
    named: dict[str, Path] = {}
    for path in code:
        root = fingerprint.PACKAGE.parent if path.is_relative_to(fingerprint.PACKAGE) else Path()
        for file in (path, *(folder / "__init__.py" for folder in path.parents)):
            if file == path or (file.is_relative_to(root) and file.is_file()):
                named[(file.relative_to(root) if root != Path() else file).as_posix()] = file
    return named
