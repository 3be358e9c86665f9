"""compose.yaml for real: the team's stack in containers, from no passwords to a champion that answers.

Needs a Docker engine with the images of compose.yaml, and in TUNESMITH_TEST_TEAM a copy of the project in which
`dvc repro` has run; .ci/engine makes all of them. Runs in the engine's network, since the ports are on its loopback.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import compose_file, servers

MLFLOW, CHAMPION = "http://127.0.0.1:5000", "http://127.0.0.1:8000"
CHECK = "import socket; socket.create_connection(({host!r}, {port}), timeout=3)"

COMPOSE = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]

pytestmark = pytest.mark.stack


class Stack:
    """compose.yaml in ``folder``, the project of a user who wrote an .env."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passwords = {name: secrets.token_hex(24) for name in compose_file.required()}
        self.environment = os.environ | {
            "MLFLOW_TRACKING_URI": MLFLOW,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": self.passwords["MLFLOW_ADMIN_PASSWORD"],
        }

    def run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout[-8000:]
        return done.stdout

    def compose(self, *command: str, fails: bool = False) -> str:
        return self.run(*COMPOSE, "--profile", "cpu", *command, fails=fails)

    def container(self, service: str) -> dict[str, Any]:
        container_id = self.compose("ps", "--all", "--quiet", service).strip()
        inspected: dict[str, Any] = json.loads(self.run("docker", "inspect", container_id))[0]
        return inspected

    def reaches(self, service: str, host: str, port: int) -> bool:
        """Whether a process in the container of ``service`` can connect to the port of that host."""
        probe = [*COMPOSE, "exec", "-T", service, "python", "-c", CHECK.format(host=host, port=port)]
        return subprocess.run(probe, cwd=self.folder, capture_output=True, check=False).returncode == 0

    def mlflow(self, path: str, account: str | None = None, password: str = "", **body: Any) -> requests.Response:
        """The response to a request to MLflow's REST API, a POST if it has a body."""
        method, content = ("POST", {"json": body}) if body else ("GET", {})
        login = (account, password) if account else None
        return requests.request(method, f"{MLFLOW}/api/2.0/mlflow/{path}", auth=login, timeout=30, **content)

    def register(self, model: str) -> None:
        """Register one model; the others would go the same way. A few probes tell it from its base as well as many."""
        path = self.folder / "build" / "params" / "register.json"
        params = json.loads(path.read_text())
        params["serve"]["probes"] = 4
        path.write_text(json.dumps(params | {"models": [model]}))
        self.run("dvc", "repro", "--single-item", "--force", "register")

    def promote(self, model: str) -> None:
        self.run("tunesmith", "promote", model, "--reason", "whatever the gate says here")

    def wait_until_served(self, model: str) -> None:
        """Wait until the champion is this model, and ask it."""
        eventually(lambda: self.health().get("trained") == model, 600, lambda: self.compose("logs", "serve"))
        assert self.ask()["choices"][0]["message"]["content"]

    def trust_own_key(self) -> None:
        """Name this user's public key in params.yaml, as docs/team.md asks every team to do once."""
        shutil.copy(Path.home() / ".config/tunesmith/signing.pem.pub", self.folder / "keys" / "me.pub")
        with (self.folder / "params.yaml").open("a") as params:
            params.write("\nsigning: {trusted: [keys/me.pub]}\n")
        self.compose("restart", "serve")

    def health(self) -> dict[str, Any]:
        try:
            health: dict[str, Any] = requests.get(f"{CHAMPION}/health", timeout=5).json()
        except requests.RequestException:
            return {}
        return health

    def ask(self) -> dict[str, Any]:
        question = {"role": "user", "content": "What is 12 + 34?"}
        response = requests.post(f"{CHAMPION}/v1/chat/completions", json={"messages": [question]}, timeout=120)
        response.raise_for_status()
        completion: dict[str, Any] = response.json()
        return completion


def eventually(holds: Callable[[], bool], seconds: float, otherwise: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(1)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack(Path(os.environ["TUNESMITH_TEST_TEAM"]))
    refused = stack.compose("up", "--detach", "--no-build", fails=True)
    assert "set it in .env" in refused
    example = (stack.folder / "deploy" / "example.env").read_text()
    for name, password in stack.passwords.items():
        example = example.replace(f"\n{name}=", f"\n{name}={password}")
    (stack.folder / ".env").write_text(example)
    try:
        stack.compose("up", "--detach", "--no-build")
        yield stack
    finally:
        print(stack.compose("logs", "--tail", "40"))  # pytest shows it where a test failed
        stack.compose("down", "--volumes", "--timeout", "5")


def test_every_service_is_healthy_and_locked_down(stack: Stack) -> None:
    for service in ("postgres", "store", "mlflow"):
        container = stack.container(service)
        assert container["State"]["Health"]["Status"] == "healthy"
        assert container["HostConfig"]["ReadonlyRootfs"]
    assert stack.container("prepare")["State"]["ExitCode"] == 0
    users = stack.compose("exec", "-T", "mlflow", "id", "-u").split()
    assert users == ["10001"]


def test_mlflow_refuses_requests_without_a_login_and_lets_the_serving_account_only_read(stack: Stack) -> None:
    serving = ("serving", stack.passwords["SERVING_PASSWORD"])
    search = "experiments/search?max_results=1"
    assert stack.mlflow(search).status_code == 401
    assert stack.mlflow(search, "admin", "password1234").status_code == 401  # MLflow's own default
    assert stack.mlflow(search, *serving).status_code == 200
    created = stack.mlflow("experiments/create", "admin", stack.passwords["MLFLOW_ADMIN_PASSWORD"], name="other")
    assert created.status_code == 200
    experiment = created.json()["experiment_id"]
    assert stack.mlflow("runs/create", *serving, experiment_id=experiment).status_code == 403


def test_only_mlflow_reaches_the_database_and_the_store(stack: Stack) -> None:
    closed: list[tuple[str, int]] = []
    for host, port in (("postgres", 5432), ("store", 7070)):
        assert stack.reaches("mlflow", host, port)
        network = stack.container(host)["NetworkSettings"]
        address = next(iter(network["Networks"].values()))["IPAddress"]
        closed += [(host, port), (address, port)]
        assert not any(network["Ports"].values())
    assert stack.reaches("serve", "mlflow", 5000)
    with ThreadPoolExecutor() as pool:  # each waits for a name server, or for an answer that never comes
        assert not any(pool.map(lambda place: stack.reaches("serve", *place), closed))


def test_the_serving_container_follows_the_champion(stack: Stack) -> None:
    stack.register("sft-lora")
    assert stack.health().get("status") != "serving"
    stack.trust_own_key()
    stack.promote("sft-lora")
    stack.register("sft-full")  # beside the champion of now, which the container fetches meanwhile
    stack.wait_until_served("sft-lora")
    stack.promote("sft-full")
    stack.wait_until_served("sft-full")
    eventually(lambda: stack.container("serve")["State"]["Health"]["Status"] == "healthy", 60, stack.health)


def test_promotions_survive_a_restart(stack: Stack) -> None:
    before = stack.run("tunesmith", "history")
    assert "sft-full" in before
    stack.compose("restart", "postgres", "mlflow")
    eventually(lambda: servers.answers(f"{MLFLOW}/health"), 120, lambda: stack.compose("logs", "mlflow"))
    assert stack.run("tunesmith", "history") == before
