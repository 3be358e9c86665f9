"""The image that stages run in: always named by digest, since a tag may mean another image tomorrow."""

import re
from pathlib import Path

import tunesmith
from tunesmith.core import files, params
from tunesmith.core.errors import ParamsError

PACKAGE = Path(tunesmith.__path__[0])
HOW_TO_BUILD = '`docker build --tag tunesmith "$(tunesmith image --context)"`'
HOW_TO_SET = f"{HOW_TO_BUILD} builds one; `tunesmith image NAME` puts its digest there"


def context() -> Path:
    """The folder that an image is built from: a wheel holds the Dockerfile and its inputs, as this repository does."""
    bundled = PACKAGE / "pipeline" / "image"
    return bundled if bundled.is_dir() else PACKAGE.parent


def is_digest(name: str) -> bool:
    """Whether an image is named by digest: ``sha256:...``, or ``name@sha256:...``."""
    return re.fullmatch(r"(?:[^@\s]+@)?sha256:[0-9a-f]{64}", name) is not None


def pin(digest: str, path: Path = params.PATH) -> None:
    """Write the digest into params.yaml and change nothing else. Raises ParamsError where its line is not found."""
    line = r"(?m)^(runtime:.*\n(?:(?: .*|#.*)?\n)*?  image:)(?: +[^\s#]+|(?=[ \t]*(?:#.*)?$)(?!.*\n {3,}[^\s#]))"
    before = path.read_text()
    if "runtime" not in params.read(path):
        files.write_text(path, f"{before.rstrip()}\n\nruntime:\n  image: {digest}\n")
        return
    after, changed = re.subn(line, rf"\g<1> {digest}", before, count=1)
    if not changed:
        raise ParamsError(f"{path}: no line `image:` under `runtime:`", fix=f"write it there: image: {digest}")
    files.write_text(path, after)
