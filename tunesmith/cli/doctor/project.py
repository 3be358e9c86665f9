"""Checks of this project: params, git, DVC, tracker, keys, the base model."""

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from tunesmith.cli import check
from tunesmith.cli.doctor.finding import Finding
from tunesmith.core import checkpoints, dvc_project, formatting, git, layout, lineage, manifest, params
from tunesmith.core.errors import IntegrityError
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Certificate, Key, Settings, Sigstore
from tunesmith.registry.tracker import Names, tracking_uri

BASE = Path("models/base")
LOCKS = Path(".dvc/tmp/rwlock")
"""DVC's list of the paths in use. DVC writes it in place, and does not run while it cannot read it."""


def values() -> Finding:
    """Check params.yaml as a whole."""
    return Finding("params", "good", f"in order; data sets: {', '.join(check.check().data)}")


def checkout(root: Path) -> Finding:
    """Check that a model trained now can name the code that made it."""
    if git.root(root) is None:
        fix = "`git init && git add -A && git commit`"
        return Finding("git", "warning", "no checkout: a model trained here cannot name its code", fix)
    if not git.clean(root):
        fix = "commit before you train a model to register"
        return Finding("git", "warning", "uncommitted changes: a model trained now cannot be reproduced", fix)
    return Finding("git", "good", "all committed")


def data_versions(root: Path) -> Finding:
    """Check that DVC reads the pipeline and its locks, and can write its cache."""
    if not (root / ".dvc").is_dir():
        return Finding("DVC", "bad", "no .dvc here", "run from the project's root, or `dvc init`")
    if not _readable(root / LOCKS):
        fix = f"when no dvc command runs in this project, `rm {LOCKS}`"
        return Finding("DVC", "bad", f"{LOCKS} is cut off: a dvc command was killed while it wrote it", fix)
    count, cache = len(dvc_project.stages(root)), dvc_project.cache(root)
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        return Finding("DVC", "bad", f"the cache {cache} cannot be written", "`dvc cache dir --local FOLDER`")
    disk = " (another disk than the project's)" if existing.stat().st_dev != root.stat().st_dev else ""
    return Finding("DVC", "good", f"{count} stages; the cache is {cache}{disk}")


def _readable(locks: Path) -> bool:
    try:
        json.loads(locks.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


def remote(root: Path, reach: Callable[[Path], bool] = dvc_project.remote_exists) -> Finding:
    """Check that the default remote answers and exists."""
    remotes = dvc_project.remotes(root)
    if not remotes:
        fix = "`dvc remote add --default NAME ADDRESS`, then `dvc push`"
        return Finding("remote", "warning", "none: data and models are on this disk alone", fix)
    name, address = next(iter(remotes.items()))
    fix = (
        f"check the address and its credentials: `dvc remote list`, `dvc config --list`; `dvc push -r {name}` must work"
    )
    try:
        exists = reach(root)
    except Exception as error:  # each kind of store raises errors of its own
        return Finding("remote", "bad", f"{name} at {address} does not answer: {error}", fix)
    if not exists:
        return Finding("remote", "bad", f"{name} at {address}: the folder does not exist", fix)
    return Finding("remote", "good", f"{name} at {address} answers")


def tracker(connect: Callable[[], Registry] = Registry) -> Finding:
    """Check that MLflow answers with the tables of this release. A local database is not created."""
    uri = tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return Finding(
            "tracker", "good", "MLflow on SQLite, created at first use (MLFLOW_TRACKING_URI may name a server)"
        )
    names = params.load(Names, "registry")
    connect().versions(names.model)
    kind = uri.partition(":")[0].partition("+")[0]
    return Finding("tracker", "good", f"MLflow answers ({'a server' if kind.startswith('http') else kind})")


def keys() -> Finding:
    """Check that versions can be signed, and that the keys of trusted others can be read."""
    signing = params.load(Settings, "signing").root
    match signing:
        case Key(private=private):
            path = private or signatures.own_key()
            if private is None and not path.exists():
                trusted = len(signatures.public_keys(signing))
                return Finding(
                    "signing", "good", f"your key is created at first use ({path}); {trusted} other keys are trusted"
                )
            files = [path]
        case Certificate(private=private, certificate=certificate, chain=chain, roots=roots):
            files = [private, certificate, *chain, *roots]
        case Sigstore(identity=identity):
            return Finding("signing", "good", f"by Sigstore, as {identity}; needs the network")
    absent = [str(file) for file in files if not file.is_file()]
    if absent:
        return Finding("signing", "bad", f"no file {', '.join(absent)}", "correct the section signing in params.yaml")
    if stat.S_IMODE(files[0].stat().st_mode) & 0o077:
        return Finding("signing", "bad", f"others can read the private key {files[0]}", f"`chmod 600 {files[0]}`")
    trusted = len(signatures.public_keys(signing)) if isinstance(signing, Key) else len(signing.roots)
    return Finding("signing", "good", f"{files[0]}, readable by you alone; {trusted} trusted")


def trainings(root: Path) -> Finding:
    """Show the trainings that are not done, which the next `dvc repro` goes on with."""
    left = [
        training
        for folder in sorted((root / layout.CHECKPOINTS).glob("*/*"))
        for training in checkpoints.unfinished(folder)
    ]
    if not left:
        return Finding("trainings", "good", "none was cut short")
    now = time.time()
    listed = ", ".join(
        f"{training.model} (step {training.step}, {formatting.size(training.bytes)}, "
        f"{formatting.seconds(now - training.written)} ago)"
        for training in left
    )
    fix = "`dvc repro` goes on with those whose params, data and code are as they were; `tunesmith doctor "
    fix += "--clear-checkpoints` removes all that do not run now"
    return Finding("trainings", "warning", f"not done: {listed}", fix)


def clear_checkpoints(root: Path) -> list[str]:
    """Remove the checkpoints of trainings that do not run now; a line for each training."""
    lines = []
    for folder in sorted((root / layout.CHECKPOINTS).glob("*/*")):
        for training in checkpoints.unfinished(folder):
            done = "removed" if checkpoints.remove(training) else "runs now, and is left alone"
            lines.append(f"{training.model}, step {training.step}, {formatting.size(training.bytes)}: {done}")
    return lines


def base_model(folder: Path = BASE) -> Finding:
    """Check that the base model is here and complete; of its weights, only the sizes are checked."""
    if not folder.exists():
        return Finding("base model", "warning", f"no {folder} yet", "`dvc repro fetch_base`")
    contents = manifest.verify(folder, weights=False)
    for name, entry in contents.files.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != entry["bytes"]:
            raise IntegrityError(f"{folder / name}: missing or truncated", fix="`dvc repro --force fetch_base`")
    source = str(lineage.read(folder).get("source", "")).partition(" sha256:")[0]
    return Finding("base model", "good", f"{source}, digest {contents.digest[:12]}")
