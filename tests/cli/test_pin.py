"""`tunesmith pin`, against a server on this machine that answers as the model hub does."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from tunesmith.cli import pin
from tunesmith.cli.main import main
from tunesmith.core import params
from tunesmith.core.errors import ParamsError
from tunesmith.project import document

COMMIT, OTHER = "a1" * 20, "b2" * 20
KNOWN = {"/api/models/o/m/revision/main": COMMIT, "/api/datasets/o/d/revision/v2": OTHER}
ERRORS = {
    "/api/models/o/m/revision/nothing": (404, "RevisionNotFound"),
    "/api/models/o/gated/revision/main": (403, "GatedRepo"),
    "/api/models/o/absent/revision/main": (401, "RepoNotFound"),
    "/api/models/o/broken/revision/main": (500, ""),
}


class FakeHub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        status, code = ERRORS.get(path, (200, ""))
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        body = json.dumps({"id": "o/m", "sha": KNOWN.get(path), "siblings": []}).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["pin", *arguments])
    return result.output + (str(result.exception) if result.exit_code else "")


def test_the_commit_of_a_model_is_added_to_params() -> None:
    params.PATH.write_text("# mine\ndata: {}\n")
    assert f"params.yaml: base_model: {{repo: o/m, commit: {COMMIT}}}" in run("o/m")
    assert params.PATH.read_text() == f"base_model: {{repo: o/m, commit: {COMMIT}}}\n\n# mine\ndata: {{}}\n"


@pytest.mark.parametrize("old", [OTHER, "main", "'main'"])
def test_an_older_commit_is_replaced_and_nothing_else(old: str) -> None:
    text = "base_model: # mine\n  repo: o/m\n  commit: {}  # moved in May\ndata: {{x: {{path: commit}}}}\n"
    params.PATH.write_text(text.format(old))
    run("o/m@main")
    assert params.PATH.read_text() == text.format(COMMIT)


@pytest.mark.parametrize("section", ["{repo: o/other, commit: main}", "{path: models/mine}", "{repo: o/m}"])
def test_another_model_is_not_replaced(section: str) -> None:
    params.PATH.write_text(f"base_model: {section}\n")
    with pytest.raises(ParamsError, match="base_model is another model") as error:
        pin.write("o/m", COMMIT)
    assert f"base_model: {{repo: o/m, commit: {COMMIT}}}" in error.value.fix
    assert params.PATH.read_text() == f"base_model: {section}\n"


def test_the_commit_of_a_data_set_is_printed_as_advise_takes_it() -> None:
    assert f"hub:o/d@{OTHER}\n" in run("--dataset", "o/d@v2")


@pytest.mark.parametrize(
    ("repo", "expected"),
    [
        ("o/m@nothing", "has no branch, tag or commit 'nothing'"),
        ("o/gated", "set HF_TOKEN to a token of an account that has access"),
        ("o/absent", "it does not exist, or it is private or gated and this machine has no token"),
        ("o/broken", "the hub did not answer"),
        ("not a name", "write OWNER/NAME"),
    ],
)
def test_what_the_hub_refuses_is_explained(repo: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.models.base.hub.get_token", lambda: None)
    assert expected in run(repo)


def test_without_the_hub_the_error_says_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "a folder needs no hub" in run("o/m")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "unset it" in run("o/m")


def test_a_branch_in_params_is_answered_with_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    params.PATH.write_text("base_model: {repo: o/m, commit: main}\n")
    with pytest.raises(ParamsError, match="'main' is a branch or a tag, which can move") as error:
        document.load()
    assert f"write commit: {COMMIT}, which is what main is now" in error.value.fix
    params.PATH.write_text("base_model: {repo: o/m}\n")
    with pytest.raises(ParamsError, match=r"base_model\.commit: missing") as error:
        document.load()
    assert COMMIT in error.value.fix
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ParamsError) as error:
        document.load()
    assert "`tunesmith pin o/m@main` writes the commit; just now: o/m@main: the hub did not answer" in error.value.fix
