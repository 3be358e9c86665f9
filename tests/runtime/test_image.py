"""`tunesmith image` changes one value of params.yaml."""

from pathlib import Path

import pytest
import yaml
from runtime_settings import DIGEST

from tunesmith.core.errors import ParamsError
from tunesmith.runtime import (
    image,
)

ROOT = Path(__file__).parents[2]


def test_pinning_changes_one_value_and_keeps_its_comment(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    before += "\nruntime: # where stages run\n  engine: docker\n  image: null # by digest\n  gpus: all\n"
    path.write_text(before)
    image.pin(DIGEST, path)
    after = path.read_text()
    assert yaml.safe_load(after)["runtime"] == {"engine": "docker", "image": DIGEST, "gpus": "all"}
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    ((old, new),) = changed
    assert old.split("#")[1] == new.split("#")[1]


def test_pinning_adds_the_section_to_params_without_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    path.write_text(before)
    image.pin(DIGEST, path)
    assert path.read_text().startswith(before)
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(before) | {"runtime": {"image": DIGEST}}


def test_pinning_refuses_a_value_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"runtime:\n  image:\n    {DIGEST}\n")
    with pytest.raises(ParamsError, match="no line `image:`"):
        image.pin(DIGEST, path)


@pytest.mark.parametrize("line", ["image:", "image: ", "image:  # by digest", "image: null", "image: ''"])
def test_pinning_fills_an_empty_value(line: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"runtime:\n  engine: docker\n  {line}\n  gpus: null\n")
    image.pin(DIGEST, path)
    assert yaml.safe_load(path.read_text())["runtime"] == {"engine": "docker", "image": DIGEST, "gpus": None}
    assert ("# by digest" in path.read_text()) is ("#" in line)


def test_pinning_refuses_params_without_a_line_for_the_image(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("runtime: {image: null}\nserve:\n  image: null\n")
    with pytest.raises(ParamsError, match="no line `image:`"):
        image.pin(DIGEST, path)
