"""The bare interpreter that a sandbox runs, and the files it needs."""

import sys
from pathlib import Path

VARIABLES = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}
"""All that a sandboxed process finds in its environment. One hash seed: a verdict on the order of a set repeats."""


def executable() -> Path:
    """The interpreter below any virtual environment."""
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return (base if base.exists() else Path(sys.executable)).resolve()


def command() -> list[str]:
    """Without site-packages, user site, current folder and written bytecode."""
    return [str(executable()), "-P", "-s", "-S", "-B", "-X", "utf8"]


def readable() -> list[Path]:
    """The system's libraries and the interpreter's own: nothing under ``/usr/src``, where projects may live."""
    base = Path(sys.base_prefix)
    folders = [Path("/usr/lib"), Path("/usr/lib64"), Path("/lib"), Path("/lib64"), base / "lib", base / "lib64"]
    paths = dict.fromkeys([*folders, executable(), Path("/etc/ld.so.cache")])
    return [path for path in paths if path.exists()]
