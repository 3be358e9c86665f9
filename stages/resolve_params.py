"""Check all of params.yaml, and write the effective params of every stage, defaults included.

reads   params.yaml
params  all
writes  build/params/<stage>.json, build/params/<stage>/<entry>.json
"""

from tunesmith.core import files, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import RESOLVED
from tunesmith.project import checks, document, stage_params


def main() -> str:
    project = document.load()
    checks.check(project)
    with files.new_folder(RESOLVED) as folder:
        for part in stage_params.of(project):
            path = folder / part.path.relative_to(RESOLVED)
            path.parent.mkdir(exist_ok=True)
            ready_rows.write_json(path, part.values)
    return f"{RESOLVED}: {len(project.data)} data sets, {len(project.models) + len(project.reward)} models"


if __name__ == "__main__":
    run(main)
