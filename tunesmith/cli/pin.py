"""`tunesmith pin`: the commit of a repository on the model hub, written into params.yaml."""

import re
from pathlib import Path

import yaml

from tunesmith.core import files, params
from tunesmith.core.errors import ParamsError
from tunesmith.models.base import hub


def run(repo: str, *, dataset: bool) -> None:
    """Print the commit that ``repo``, OWNER/NAME[@REVISION], is at; write that of a model to base_model."""
    name, _, revision = repo.partition("@")
    commit = hub.commit(name, revision or "main", kind="dataset" if dataset else "model")
    if dataset:
        print(f"hub:{name}@{commit}")
        print(f"next: tunesmith advise hub:{name}@{commit}   its rows, and the entry of params.yaml for them")
        return
    if not params.PATH.exists():
        print(f"base_model: {{repo: {name}, commit: {commit}}}")
        return
    write(name, commit)
    print(f"params.yaml: base_model: {{repo: {name}, commit: {commit}}}")


def write(repo: str, commit: str, path: Path = params.PATH) -> None:
    """Put a hub repository and its commit into base_model, and change nothing else, comments included.

    Raises ParamsError where the text cannot be edited safely.
    """
    text, before = path.read_text(), params.read_unchecked(path)
    present = before.get("base_model", {"repo": repo})
    present = present if isinstance(present, dict) else {}
    old = str(present.get("commit"))
    if "base_model" in before:
        changed = re.sub(rf"(\bcommit:\s*)(['\"]?){re.escape(old)}\2", rf"\g<1>{commit}", text, count=1)
    else:
        changed = f"base_model: {{repo: {repo}, commit: {commit}}}\n\n{text}"
    expected = {**before, "base_model": {**present, "commit": commit}}
    if present.get("repo") == repo and yaml.safe_load(changed) == expected:
        files.write_text(path, changed)
        return
    raise ParamsError(
        f"{path}: base_model is another model, or could not be changed without touching other values",
        fix=f"write it by hand: base_model: {{repo: {repo}, commit: {commit}}}",
    )
