"""The archive that travels for a stage: the code that its fingerprint names, its effective params, its lineage's facts.

Everything else a stage reads is data, which travels by digest. The parcel becomes the working folder of the job's
processes, by Ray's own means: Ray names it by its content, and a node that has it does not take it again.
"""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from tunesmith.core import fingerprint, layout, params
from tunesmith.core.dvc_project import Stage

NODE = ("node.py", "node_report.py", "spread_rows.py", "tasks.py", "tied.py", "training.py")
"""The modules of this package that run on the nodes."""
FACTS = (params.PATH, layout.LOCK, Path("dvc.lock"))
"""Files that a stage copies into a model's lineage."""
BUILD = Path("build")
"""The folder of fingerprints and effective params."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a parcel, so that the same files make the same bytes."""


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


def _with_packages(code: Iterable[Path]) -> dict[str, Path]:
    """Modules by their path in a workspace, with the `__init__` of the packages that hold them."""
    named: dict[str, Path] = {}
    for path in code:
        root = fingerprint.PACKAGE.parent if path.is_relative_to(fingerprint.PACKAGE) else Path()
        for file in (path, *(folder / "__init__.py" for folder in path.parents)):
            if file == path or (file.is_relative_to(root) and file.is_file()):
                named[(file.relative_to(root) if root != Path() else file).as_posix()] = file
    return named
