"""The bare interpreter that a sandbox runs, and the files it needs."""

import functools
import site
import sys
from pathlib import Path

VARIABLES = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}
"""The whole environment of a sandboxed process. A fixed hash seed makes a verdict on the order of a set repeatable."""
PACKAGES = ("site-packages", "dist-packages")
"""Names of the folders that hold installed packages."""


def executable() -> Path:
    """The interpreter below any virtual environment."""
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return (base if base.exists() else Path(sys.executable)).resolve()


def command() -> list[str]:
    """The interpreter's command, without site-packages, user site, current folder and written bytecode.

    Not ``-I``, which would ignore the hash seed of `VARIABLES`.
    """
    return [str(executable()), "-P", "-s", "-S", "-B", "-X", "utf8"]


def readable() -> list[Path]:
    """Folders and files that a sandbox may read, all but `hidden` in them: the system's libraries and the interpreter's
    own, and nothing under ``/usr/src``, where projects may live."""
    base = Path(sys.base_prefix)
    folders = [Path("/usr/lib"), Path("/usr/lib64"), Path("/lib"), Path("/lib64"), base / "lib", base / "lib64"]
    paths = dict.fromkeys([*folders, executable(), Path("/etc/ld.so.cache")])
    return [path for path in paths if path.exists()]


@functools.cache
def hidden() -> list[Path]:
    """Folders of installed packages in what is readable, without those that are another's under a second name; also
    those of this environment, if it is there, as in our images.

    A program could put them on its path, and would then be right on the machines that have its packages.
    """
    folders = [
        folder for path in readable() for name in PACKAGES for folder in (*path.glob(f"python*/{name}"), path / name)
    ]
    roots = [path.resolve() for path in readable()]
    own = [path for path in map(Path, site.getsitepackages()) if any(path.resolve().is_relative_to(r) for r in roots)]
    return [folder for folder in dict.fromkeys(path.resolve() for path in [*folders, *own]) if folder.is_dir()]
