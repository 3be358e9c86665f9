"""Which of the project's own files a stage runs, found in the source without running it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]

RESOURCES = {
    "tunesmith/reports/model_card.py": ["tunesmith/reports/templates/card.md.j2"],
    "tunesmith/reports/data_page.py": [
        "tunesmith/reports/templates/data.html.j2",
        "tunesmith/reports/templates/style.html.j2",
    ],
    "tunesmith/reports/comparison_page.py": [
        "tunesmith/reports/templates/charts.html.j2",
        "tunesmith/reports/templates/comparison.html.j2",
        "tunesmith/reports/templates/style.html.j2",
    ],
}
"""Files that a module reads by path."""


def of(stage: Path) -> set[str]:
    """Every module that ``stage`` imports, directly or not, and the resources they read, as paths from the root.

    Imports inside functions count. ``tunesmith/__init__.py`` does not: it holds a docstring alone (a test says so).
    """
    found: set[str] = set()
    todo = [stage.relative_to(ROOT).as_posix()]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        todo += RESOURCES.get(path, [])
        if path.endswith(".py"):
            todo += imports(path)
    return found


def imports(path: str) -> list[str]:
    """The project's modules that one module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return sorted({file for name in names if (file := _file(name))})


def _file(module: str) -> str | None:
    if module == "tunesmith" or not module.startswith("tunesmith."):
        return None
    place = module.replace(".", "/")
    return next((name for name in (f"{place}.py", f"{place}/__init__.py") if (ROOT / name).is_file()), None)
