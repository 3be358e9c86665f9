import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from tunesmith.core.errors import IntegrityError
from tunesmith.reports import vendored

SCRIPTS = [vendored.CHARTS, vendored.TEXTS]


def test_every_library_is_the_release_that_its_digest_names() -> None:
    assert [*vendored.libraries()] == [*vendored.CHARTS, *vendored.TEXTS]
    for name, library in vendored.libraries().items():
        content = (vendored.FOLDER / library["file"]).read_bytes()
        assert sha256(content).hexdigest() == library["sha256"]
        assert "Copyright" in (vendored.FOLDER / f"LICENSE-{name}").read_text()[:60]
    assert 'n="6.5.0"' in vendored.script("vega-lite")


def test_a_library_that_was_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(vendored.FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "vega-embed.min.js").write_text("fetch('https://elsewhere.example')")
    monkeypatch.setattr(vendored, "FOLDER", tmp_path)
    vendored.script.cache_clear()
    with pytest.raises(IntegrityError, match=r"vega-embed\.min\.js: its SHA-256 is"):
        vendored.script(*vendored.CHARTS)


@pytest.mark.parametrize("names", SCRIPTS)
def test_libraries_can_stand_in_a_script_element(names: tuple[str, ...]) -> None:
    assert not re.search("</script|<script|<!--|sourceMappingURL", vendored.script(*names), re.IGNORECASE)
    assert len(vendored.script(*names)) < 1_000_000
