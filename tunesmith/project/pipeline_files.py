"""The files of a project's pipeline as this version has them: dvc.yaml with a template of its plots, stages/, and a
README.md in each folder.

Tunesmith's repository is itself such a project, so they are its own; a wheel holds copies. Elsewhere the package is no
part of the repository, so `fingerprint` has nothing to depend on: it runs with every `dvc repro`.
"""

import difflib
import re
from pathlib import Path

import tunesmith
from tunesmith.core import files
from tunesmith.reports import plot_template

PACKAGE = Path(tunesmith.__path__[0])
DVC_YAML = Path("dvc.yaml")
FOLDERS = ("data", "data/held_out", "data/tasks", "data/ready", "models", "reports", "reports/trial")
"""Folders that stages read or write; git keeps them for their README.md."""
DEMO = "generate_demo"
"""The stage that only Tunesmith's repository needs."""
CODE_DEPS = "    deps: [stages, tunesmith, requirements.lock, pyproject.toml]\n"
ALWAYS = "    always_changed: true # reads the installed packages, in a second\n"
LINES = {
    Path(".gitignore"): (
        "mlflow.db*", "mlartifacts/", "data/raw/?*", "!data/raw/*.dvc", "data/ready/*", "!data/ready/README.md",
        "data/reference/", "data/baseline/", "data/quarantine/", "models/*", "!models/README.md", "reports/*",
        "!reports/README.md", "!reports/trial/", "reports/trial/*", "!reports/trial/README.md", "dvc_plots/", "build/",
        ".venv*/", "__pycache__/",
    ),
    Path(".dvcignore"): (".*.lock", ".*.partial", ".*.previous", "__pycache__/"),
}  # fmt: skip
"""Lines that files of the user's own need."""
REPLACED = {"data/raw/*": "data/raw/?*"}
"""Lines of earlier versions. DVC takes data/raw/* for the folder itself: `dvc push` and `pull` left out its files."""


def contents() -> dict[Path, str]:
    """Every file of the pipeline of a project outside of Tunesmith's repository, by its path."""
    before, rest = (root() / DVC_YAML).read_text().split(f"  {DEMO}:\n")
    texts = {DVC_YAML: (before + rest.split("\n\n", 1)[1]).replace(CODE_DEPS, ALWAYS)}
    names = [*(f"stages/{path.name}" for path in sorted((root() / "stages").glob("*.py")) if path.stem != DEMO)]
    names += [f"{folder}/README.md" for folder in FOLDERS]
    texts[plot_template.PATH] = plot_template.template()
    return texts | {Path(name): (root() / name).read_text() for name in names}


def root() -> Path:
    """The folder that has these files: this repository, or the copies in a wheel."""
    bundled = PACKAGE / "pipeline"
    return bundled if bundled.is_dir() else PACKAGE.parent


def is_project(folder: Path) -> bool:
    """Whether the folder has a pipeline of Tunesmith's, of any version since 0.2."""
    path = folder / DVC_YAML
    return path.exists() and "stages.resolve_params" in path.read_text()


def changes(folder: Path) -> dict[Path, str]:
    """The text that each file would get, for those whose text is another or that are missing; a README.md stays."""
    texts = {path: text for path, text in contents().items() if path.suffix != ".md" or not (folder / path).exists()}
    for path, lines in LINES.items():
        present = (folder / path).read_text() if (folder / path).exists() else ""
        for old, new in REPLACED.items():
            present = re.sub(f"^{re.escape(old)}$", new, present, flags=re.MULTILINE)
        missing = [line for line in lines if line not in present.splitlines()]
        separator = "" if present.endswith("\n") or not present else "\n"
        texts[path] = present + separator + "".join(f"{line}\n" for line in missing)
    return {path: text for path, text in texts.items() if _read(folder / path) != text}


def difference(folder: Path, path: Path, text: str) -> str:
    """The difference between a file and the text that it would get, as `diff -u` prints it."""
    lines = (_read(folder / path) or "").splitlines(keepends=True), text.splitlines(keepends=True)
    return "".join(difflib.unified_diff(*lines, str(path), f"{path} (this version)"))


def write(folder: Path, texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / path, text)


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
