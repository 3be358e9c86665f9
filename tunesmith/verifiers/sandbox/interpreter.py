"""The bare interpreter that a sandbox runs, and the files it needs."""

import sys
from pathlib import Path

VARIABLES = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}
"""The whole environment of a sandboxed process. A fixed hash seed makes a verdict on the order of a set repeatable."""


def executable() -> Path:
    """The interpreter below any virtual environment."""
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return (base if base.exists() else Path(sys.executable)).resolve()


def command() -> list[str]:
    """The interpreter's command, without site-packages, user site, current folder and written bytecode."""
    return [str(executable()), "-P", "-s", "-S", "-B", "-X", "utf8"]


def readable() -> list[Path]:
    """Folders and files that a sandbox may read: the system's libraries and the interpreter's own, and nothing under
    ``/usr/src``, where projects may live."""
    base = Path(sys.base_prefix)
    folders = [Path("/usr/lib"), Path("/usr/lib64"), Path("/lib"), Path("/lib64"), base / "lib", base / "lib64"]
    paths = dict.fromkeys([*folders, executable(), Path("/etc/ld.so.cache")])
    return [path for path in paths if path.exists()]
