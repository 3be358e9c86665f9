"""The fingerprint of a stage's code: a digest of every module that the stage imports, and the pins of its libraries.

A stage depends on its fingerprint, so it is stale when code that it runs changes, and only then. A module's digest is
of its syntax tree without docstrings: comments, docstrings and layout change nothing. Two rules find dependencies that
are not imports: a string that names a module of ours (a process that is started), and a string that names a data file
of the package (a template), which may in turn name others; libraries in JavaScript name none.
"""

import ast
import hashlib
import itertools
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from packaging.requirements import Requirement

import tunesmith
from tunesmith.core import layout
from tunesmith.core.errors import StaleCodeError

FOLDER = Path("build/code")
STAGES = Path("stages")
PROJECT = Path("pyproject.toml")
PACKAGE = Path(tunesmith.__path__[0])
DATA_FILES = (".j2", ".js", ".json", ".yaml")
"""Suffixes of the package's files that are read by path."""
ACT_THROUGH = {
    "transformers": ("accelerate", "bitsandbytes", "safetensors", "tokenizers"),
    "trl": ("accelerate",),
    "lm_eval": (
        "datasets",
        "evaluate",
        "immutabledict",
        "langdetect",
        "nltk",
        "rouge-score",
        "sacrebleu",
        "scikit-learn",
    ),
}
"""Libraries that change results though our modules do not import them, by the library that calls them."""


def of_stage(stage: str) -> str:
    """The fingerprint of a stage as text, a line each: "<SHA-256 in hex>  <path>" or "<library>==<version>"."""
    paths = _closure_of(stage)
    return "\n".join([*_module_lines(paths), *pins(paths)]) + "\n"


def stages() -> list[str]:
    """The names of the stages that have a fingerprint: all but `fingerprint`, which writes them."""
    return sorted(path.stem for path in STAGES.glob("*.py") if path.stem not in ("__init__", "fingerprint"))


def check(stage: str) -> None:
    """Raise StaleCodeError where ``stage`` would run other code or libraries than its fingerprint, which DVC trusts."""
    path = FOLDER / stage
    lines = path.read_text().splitlines() if path.exists() else []
    modules = {line for line in lines if " " in line}
    changed = sorted({line.split()[-1] for line in modules ^ set(_module_lines(_closure_of(stage)))})
    if changed:
        names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise StaleCodeError(
            f"{path}: the code that would run is not the code of this fingerprint ({names})",
            fix="`dvc repro` (without --single-item) takes the fingerprint again, then runs what it makes stale",
        )
    if os.environ.get(layout.IMAGE_DIGEST_VARIABLE) and not layout.LOCK.exists():
        return  # the digest of the image, on which the stage depends too, stands for the libraries in it
    for name, number in (line.split("==") for line in lines if line not in modules):
        present = installed(name)
        if present is not None and present.partition("+")[0] != number.partition("+")[0]:
            source = layout.LOCK if layout.LOCK.exists() else "this fingerprint"
            raise StaleCodeError(
                f"{path}: {name} {present} is installed, and {source} pins {number}",
                fix=f"install the pinned version (`pip install {name}=={number}`), or pin the installed one",
            )


def closure(paths: Iterable[Path]) -> set[Path]:
    """These files and every module and data file of ours that they need, directly or indirectly."""
    needed: set[Path] = set()
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in needed:
            needed.add(path)
            waiting += references(path)
    return needed


def references(path: Path) -> tuple[Path, ...]:
    """The modules and data files of ours that one file names. Imports inside functions count."""
    source = _read(path)
    files = {_module(name) or _data_files().get(name) for name in (*source.imports, *source.strings)}
    return tuple(sorted(file for file in files if file is not None and file != path))


def digest(path: Path) -> str:
    """SHA-256, in hex, of a module's syntax tree without docstrings, or of another file's bytes."""
    return _read(path).digest


def pins(paths: Iterable[Path]) -> list[str]:
    """A line "<library>==<version>" for every library that these modules import: its pinned version, or else its
    installed one.
    """
    roots = {name.split(".")[0] for path in paths for name in _read(path).imports}
    locked, distributions = _locked(), _distributions()
    libraries = {_normal(name) for root in roots for name in distributions.get(root, ())}
    libraries |= {_normal(name) for root in roots for name in ACT_THROUGH.get(root, ())}
    libraries.discard("tunesmith")
    return sorted(f"{name}=={number}" for name in libraries if (number := locked.get(name) or installed(name)))


def _closure_of(stage: str) -> list[Path]:
    return sorted(closure([STAGES / f"{stage}.py"]), key=_relative)


def _module_lines(paths: Iterable[Path]) -> list[str]:
    return [f"{digest(path)}  {_relative(path)}" for path in paths]


@dataclass(frozen=True)
class _Source:
    """A file as a fingerprint sees it.

    digest: see `digest`. imports: the names of imported modules. strings: strings that may name a file or a module.
    """

    digest: str
    imports: tuple[str, ...]
    strings: tuple[str, ...]


def _read(path: Path) -> _Source:
    return _read_once(path, path.stat().st_mtime_ns)


@cache
def _read_once(path: Path, modified: int) -> _Source:
    """modified: the time of the last change, in nanoseconds, so that a file is read again after an edit."""
    content = path.read_bytes()
    if path.suffix != ".py":
        words = () if path.suffix == ".js" else re.findall(r"[\w./-]+", content.decode())
        return _Source(hashlib.sha256(content).hexdigest(), (), tuple(words))
    tree = _without_docstrings(ast.parse(content, filename=str(path)))
    sha256 = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return _Source(sha256, tuple(_imports(tree)), tuple(_strings(tree)))


def _imports(tree: ast.Module) -> Iterator[str]:
    """The names of imported modules: ``a.b`` for ``import a.b``; ``a`` and ``a.b`` for ``from a import b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _strings(tree: ast.Module) -> Iterator[str]:
    """The strings of a module that may name a module or a data file of ours."""
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and (text.startswith("tunesmith.") or text.endswith(DATA_FILES)):
            yield text


def _module(name: str) -> Path | None:
    """The file of a module of ours by its dotted name; None for a package, whose `__init__` holds no code."""
    if not re.fullmatch(r"(tunesmith|stages)(\.\w+)+", name):
        return None
    root = PACKAGE if name.startswith("tunesmith.") else STAGES
    path = root.joinpath(*name.split(".")[1:]).with_suffix(".py")
    return path if path.is_file() else None


@cache
def _data_files() -> dict[str, Path]:
    """The package's data files by file name, which no two of them share."""
    return {path.name: path for path in PACKAGE.rglob("*") if path.suffix in DATA_FILES}


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """``tree`` without the docstrings of modules, classes, functions and fields; changed in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_docstring(part)] or [ast.Pass()]
    return tree


def _is_docstring(node: ast.stmt) -> bool:
    """Whether a statement is a lone string: the docstring of a module, class or function, or of the field above it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _relative(path: Path) -> str:
    """The path of a file in a fingerprint, the same wherever the package is installed."""
    return f"tunesmith/{path.relative_to(PACKAGE).as_posix()}" if path.is_relative_to(PACKAGE) else path.as_posix()


def _locked() -> dict[str, str]:
    """The pinned version of each library, for this Python: from the lock, or from pyproject.toml (its requirements, or
    uv's constraints) for torch, which is not in the lock.
    """
    return _locked_once(*(path.stat().st_mtime_ns if path.exists() else 0 for path in (layout.LOCK, PROJECT)))


@cache
def _locked_once(lock: int, project: int) -> dict[str, str]:
    """lock, project: the times of the files' last changes, in nanoseconds."""
    lines = re.findall(r"^[\w.-]+==[^\\\n]+", layout.LOCK.read_text(), re.MULTILINE) if layout.LOCK.exists() else []
    tables = tomllib.loads(PROJECT.read_text()) if PROJECT.exists() else {}
    about, uv = tables.get("project", {}), tables.get("tool", {}).get("uv", {})
    lines += [*about.get("dependencies", []), *itertools.chain(*about.get("optional-dependencies", {}).values())]
    lines += uv.get("constraint-dependencies", [])
    requirements = [Requirement(line) for line in lines]
    return {
        _normal(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in reversed(requirements)
        if str(requirement.specifier).startswith("==") and (not requirement.marker or requirement.marker.evaluate())
    }


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def installed(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    """A distribution's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
