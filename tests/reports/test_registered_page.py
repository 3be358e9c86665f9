import json
from pathlib import Path

import pytest
from shoot_out import HOW, models

from stages import register
from tunesmith.core import files, layout
from tunesmith.core.errors import UnreachableTrackerError
from tunesmith.evaluation import comparison
from tunesmith.reports import comparison_page, registered_page

VERSIONS = {"sft-lora": ("0123456789abcdef", "7")}


@pytest.mark.parametrize(
    "uri",
    [
        "https://tracker.example/mlflow/",
        "https://team:secret@tracker.example/mlflow",
        "https://team:…@tracker.example/mlflow",
    ],
)
def test_a_web_server_gives_addresses_without_a_password(uri: str) -> None:
    registered = registered_page.registered("our model", uri, "3", VERSIONS)
    assert registered["tracking"] == "https://tracker.example/mlflow"
    model = registered["models"]["sft-lora"]
    assert model["run_address"] == "https://tracker.example/mlflow/#/experiments/3/runs/0123456789abcdef"
    assert model["version_address"] == "https://tracker.example/mlflow/#/models/our%20model/versions/7"


@pytest.mark.parametrize("uri", ["sqlite:////home/me/project/mlflow.db", "postgresql://me:secret@host/mlflow"])
def test_a_store_is_named_by_the_command_that_opens_it(uri: str) -> None:
    registered = registered_page.registered("m", uri, "3", VERSIONS)
    assert "`tunesmith ui`" in registered["tracking"]
    assert registered["models"]["sft-lora"]["run_address"] is None
    assert "secret" not in json.dumps(registered)


def test_the_comparisons_page_has_one_place_for_the_registrations() -> None:
    models_ = models("sft-lora")
    page = comparison_page.page(comparison.compare(models_, [], HOW), models_)
    assert page.count(registered_page.UNREGISTERED) == 1
    registered = registered_page.registered("</script><b>", "sqlite:///x", "3", VERSIONS)
    filled = registered_page.fill(page, registered)
    element = filled.split('id="registered">')[1].split("</script>")[0]
    assert json.loads(element) == registered


def test_the_page_of_an_earlier_comparison_does_not_outlive_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_: str) -> None:
        raise UnreachableTrackerError("no answer", fix="start the server")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(register, "Experiment", unreachable)
    names = {"models": [], "registry": {"experiment": "demo", "model": "calculator"}}
    files.write_text(register.PARAMS, json.dumps(names))
    files.write_text(layout.REPORTS / "comparison.json", "{}")
    files.write_text(register.PAGE, "the page of an earlier comparison")
    with pytest.raises(UnreachableTrackerError):
        register.main()
    assert not register.PAGE.exists()
