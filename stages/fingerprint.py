"""Write the fingerprint of every stage: the modules and libraries that can change its output.

reads   stages, tunesmith, requirements.lock, pyproject.toml
params  none
writes  build/code/<stage>
"""

from tunesmith.core import files, fingerprint
from tunesmith.core.console import run


def main() -> str:
    names = fingerprint.stages()
    with files.new_folder(fingerprint.FOLDER) as folder:
        for name in names:
            (folder / name).write_text(fingerprint.of_stage(name))
    return f"{fingerprint.FOLDER}: the code of {len(names)} stages"


if __name__ == "__main__":
    run(main)
