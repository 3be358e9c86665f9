"""The extras of the package: which one brings a library that is not installed."""

import importlib.util
import re
from importlib.metadata import requires

from tunesmith.core.errors import MissingLibraryError

PACKAGE = "tunesmith"


def missing(error: ModuleNotFoundError) -> MissingLibraryError | None:
    """The error for the user where an extra brings the module that was not found; None for any other module."""
    module = (error.name or "").split(".")[0]
    brought: dict[str, set[str]] = {}
    for line in requires(PACKAGE) or []:
        if found := re.fullmatch(r"([\w.-]+).*extra == [\"'](.+?)[\"'].*", line):
            brought.setdefault(found[2], set()).add(re.sub(r"[-.]", "_", found[1]).lower())
    names_of_it = {module.lower(), f"python_{module.lower()}"}  # stdnum comes with python-stdnum
    names_of_it |= {"pillow"} if module == "PIL" else set()
    bringing = [extra for extra, names in brought.items() if names & names_of_it]
    if not bringing:
        return None
    smallest = min(bringing, key=lambda extra: len(brought[extra]))
    fix = f"pip install '{PACKAGE}[{smallest}]'"
    if "all" in bringing:
        fix = f"pip install '{PACKAGE}[{smallest}]', or '{PACKAGE}[all]' for everything"
    return MissingLibraryError(f"{module} is not installed", fix=fix)


def check(module: str) -> None:
    """Raise MissingLibraryError where a module of an extra is not installed."""
    if importlib.util.find_spec(module) is None and (error := missing(ModuleNotFoundError(name=module))):
        raise error
