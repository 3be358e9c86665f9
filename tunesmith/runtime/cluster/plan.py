"""What a stage becomes on a cluster: a job, and its parts where it is divided."""

import json
import os
import shutil
import sys
from pathlib import Path

from tunesmith.core import dvc_store, layout, lineage
from tunesmith.core.dvc_project import Stage
from tunesmith.core.dvc_store import Address
from tunesmith.runtime import stage_lookup
from tunesmith.runtime.cluster import evaluation_shares, parcel
from tunesmith.runtime.cluster.job import Job, Saved
from tunesmith.runtime.settings import Runtime

EVALUATE, PREPARE = "stages.evaluate", "stages.prepare_data"
PASSED = ("TERM", "COLUMNS")
"""Variables that a stage inherits from home, where they are set."""


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
    return parcel.node_files() | parcel.stage_files(stage, f"stages.{name}", root)


def job(stage: Stage, runtime: Runtime, root: Path, address: Address, run: str, saved: Saved) -> tuple[Job, list[Job]]:
    """The job of a stage, and its parts: one, or a share of the models each."""
    name, *arguments = stage_lookup.words(stage)
    module = f"stages.{name}"
    paths = [*(path for path in stage.deps if not path.is_relative_to(parcel.BUILD)), *_kept(stage, root)]
    files = parcel.stage_files(stage, module, root) | (parcel.node_files() if module == PREPARE else {})
    whole = Job(
        target=stage.target,
        module=module,
        arguments=tuple(arguments),
        run=run,
        store=address,
        inputs=dvc_store.tree(root, paths),
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
    if module != EVALUATE:
        return whole, [whole]
    shares = evaluation_shares.divide(evaluation_shares.models(root), root, runtime.workers)
    parts = [whole.part(tuple(share), evaluation_shares.inputs(share, whole.inputs, root)) for share in shares]
    return whole, parts


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
