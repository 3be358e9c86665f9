"""Collect the wheels that a machine without network needs besides its own torch, transformers, peft and accelerate.

The most useful come first, and the folder stays under a limit. Wheels lose what no training reads: pyarrow's headers
and Flight, the tests of pandas, lm-eval's tasks, and bitsandbytes' builds for other versions of CUDA. With
their RECORD rewritten, pip installs them like any other.
"""

import base64
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
WANTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "all parts",
        (
            *("trl", "datasets", "dill", "multiprocess", "xxhash", "pyarrow", "pandas", "python-dateutil", "six"),
            *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "orjson", "jiter", "google-re2"),
            *("langdetect", "jsonschema", "jsonschema-specifications", "referencing", "rpds-py", "attrs"),
        ),
    ),
    ("images", ("pillow",)),
    ("QLoRA", ("bitsandbytes",)),
    ("evaluation", ("lm-eval", "nltk", "sacrebleu", "portalocker", "tabulate", "colorama", "lxml", "more-itertools")),
)
"""What needs them, and packages of the lock, in order of worth."""
DROPPED = {
    "pyarrow": r"^pyarrow/(include|tests|src)/|flight",
    "pandas": r"^pandas/tests/",
    "lm-eval": r"^lm_eval/tasks/.*\.(yaml|yml|txt|md|json|jsonl|csv)$",
    "bitsandbytes": r"libbitsandbytes_(?!cpu|cuda{cuda}\.)",
}
"""The names of files that are dropped from a wheel."""
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 26, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
MEGABYTE = 1e6


def collect(folder: Path, *, python: str, cuda: str, there: Path | None, megabytes: float) -> str:
    """Fill ``folder``, and return a line for each group.

    there: what `pip list --format=freeze` prints on the machine, whose packages stay out. cuda: the version of its
    torch's CUDA, such as 130.
    """
    folder.mkdir(parents=True, exist_ok=True)
    present = set() if there is None else {_plain(line.split("==")[0]) for line in there.read_text().splitlines()}
    lines, total = [], 0.0
    for purpose, names in WANTED:
        wanted = [name for name in names if name not in present]
        with tempfile.TemporaryDirectory() as scratch:
            wheels = [trimmed(_download(name, Path(scratch), python), name, cuda) for name in wanted]
            size = sum(wheel.stat().st_size for wheel in wheels) / MEGABYTE
            if total + size > megabytes:
                lines.append(f"{purpose}: left out, since {size:.1f} MB would make it {total + size:.1f} MB")
                continue
            for wheel in wheels:
                (folder / wheel.name).write_bytes(wheel.read_bytes())
        total += size
        lines.append(f"{purpose}: {size:.1f} MB, {', '.join(wanted)}")
    return "\n".join([*lines, f"{folder}: {total:.1f} MB"])


def trimmed(wheel: Path, name: str, cuda: str) -> Path:
    """The wheel without the files that DROPPED names, in place."""
    if name not in DROPPED:
        return wheel
    dropped = re.compile(DROPPED[name].replace("{cuda}", cuda))
    smaller = wheel.with_suffix(".smaller")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        record = next(entry for entry in old.namelist() if entry.endswith(".dist-info/RECORD"))
        kept = [entry for entry in old.infolist() if entry.filename != record and not dropped.search(entry.filename)]
        lines = []
        for entry in kept:
            content = old.read(entry)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            lines.append(f"{entry.filename},sha256={digest},{len(content)}\n")
        new.writestr(record, "".join([*lines, f"{record},,\n"]))
    return smaller.replace(wheel)


def _download(name: str, folder: Path, python: str) -> Path:
    """The wheel of the locked version, for another Python; built here where there is only a source of pure Python."""
    chosen = f"{name}=={_locked(name, python)}"
    target = [f"--python-version={python}", "--implementation=cp", *(f"--platform={each}" for each in PLATFORMS)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    before = set(folder.glob("*.whl"))
    done = subprocess.run(
        [*pip, "download", "-q", "--no-deps", "--only-binary=:all:", *target, "-d", str(folder), chosen],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), chosen], check=True)
    return next(iter(set(folder.glob("*.whl")) - before))


def _locked(name: str, python: str) -> str:
    """The version of requirements.lock for a version of Python."""
    from packaging.requirements import Requirement

    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.startswith(f"{name}=="):
            pinned = Requirement(line.rstrip(" \\"))
            if pinned.marker is None or pinned.marker.evaluate({"python_full_version": f"{python}.0"}):
                return str(pinned.specifier).removeprefix("==")
    raise LookupError(f"requirements.lock pins no {name} for Python {python}")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
