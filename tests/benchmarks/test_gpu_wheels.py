"""The wheels of benchmarks/gpu: what is dropped from them, and that pip still takes them."""

import subprocess
import sys
import zipfile
from pathlib import Path

from benchmarks.gpu import wheels

INFO = "pandas-1.0.dist-info"
FILES = {
    "pandas/__init__.py": "",
    "pandas/tests/__init__.py": "",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: pandas\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/RECORD": "pandas/__init__.py,,\npandas/tests/__init__.py,,\n",
}


def test_a_trimmed_wheel_installs_without_what_was_dropped(tmp_path: Path) -> None:
    wheel = tmp_path / "pandas-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name, content in FILES.items():
            file.writestr(name, content)
    trimmed = wheels.trimmed(wheel, "pandas", "130")
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*command, str(trimmed)], check=True, capture_output=True)
    assert (target / "pandas/__init__.py").exists()
    assert not (target / "pandas/tests").exists()


def test_every_wanted_package_is_pinned_for_both_pythons() -> None:
    for _, names in wheels.WANTED:
        for name in names:
            assert wheels._locked(name, "3.11")
            assert wheels._locked(name, "3.12")
