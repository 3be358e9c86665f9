"""Real servers on loopback for tests and benchmarks, each running inside a `with` block: PostgreSQL, S3, MLflow."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests import compose_file

DEBIAN = "/usr/lib/postgresql"
"""Debian's folder of PostgreSQL versions, which is not on the PATH."""
START = 120.0
"""Timeout for a server to answer, in seconds; generous, for two busy cores."""
HOST = "127.0.0.1"
NAME = "mlflow.example.com"
"""The host name of the proxy in front of a team's MLflow."""


@dataclass(frozen=True)
class Service:
    """A running server. environment: variables for its clients. process: the leader of its process group."""

    url: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill the server and all its child processes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def postgres_programs() -> Path | None:
    """Return the folder with initdb and postgres of the newest version; None where PostgreSQL is not installed."""
    installed = sorted(Path(DEBIAN).glob("[0-9]*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    initdb = str(installed[-1]) if installed else shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


@contextmanager
def postgres(database: str = "mlflow") -> Iterator[Service]:
    """Run a new PostgreSQL cluster with one database and a password. Its environment holds libpq's variables."""
    programs = postgres_programs()
    assert programs is not None, "PostgreSQL is not installed: apt-get install postgresql"
    folder, port, password = Path(tempfile.mkdtemp(prefix="tunesmith-postgres-")), free_port(), secrets.token_hex(16)
    variables = {"PGHOST": HOST, "PGPORT": str(port), "PGUSER": "tunesmith", "PGPASSWORD": password}
    environment = variables | {"PGDATABASE": database}
    try:
        with _unprivileged(folder) as user:
            (folder / "password").write_text(password)
            initialise = [programs / "initdb", "-D", folder / "data", "-U", "tunesmith", "-A", "scram-sha-256"]
            options = ["--pwfile", folder / "password", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
            subprocess.run([*initialise, *options], check=True, capture_output=True, cwd=folder, **user)
            settings = {"listen_addresses": HOST, "unix_socket_directories": str(folder), "max_connections": "200"}
            options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            command = [programs / "postgres", "-D", folder / "data", "-p", str(port), *options]
            ask = [programs / "pg_isready", "-q", "-d", "postgres"]
            with _serving(
                command,
                folder,
                lambda: subprocess.run(ask, env=os.environ | variables, check=False).returncode == 0,
                url=f"postgresql+psycopg2://tunesmith:{password}@{HOST}:{port}/{database}",
                environment=environment,
                stop=signal.SIGINT,  # PostgreSQL's fast shutdown
                **user,
            ) as service:
                subprocess.run([programs / "createdb", database], check=True, env=os.environ | variables)
                yield service
    finally:
        shutil.rmtree(folder)


@contextmanager
def object_store(folder: Path, bucket: str | None = "mlflow") -> Iterator[Service]:
    """Run moto's S3 server, with an empty bucket if one is named."""
    import boto3

    port = free_port()
    url = f"http://{HOST}:{port}"
    environment = {
        "MLFLOW_S3_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    with _serving(command, folder, lambda: answers(f"{url}/moto-api/"), url=url, environment=environment) as service:
        if bucket:
            account = {"aws_access_key_id": "key", "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"]}
            boto3.client("s3", endpoint_url=url, region_name="us-east-1", **account).create_bucket(Bucket=bucket)
        yield service


@contextmanager
def mlflow_server(
    folder: Path, *options: str, environment: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[Service]:
    """Run `mlflow server` in ``folder``; without options, on SQLite and artifacts there."""
    port = port or free_port()
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "mlflow", "server", f"--host={HOST}", f"--port={port}", "--workers=1"]
    local = [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"]
    with _serving(
        [*command, *(options or local)],
        folder,
        lambda: answers(f"{url}/health"),
        url=url,
        environment={"MLFLOW_TRACKING_URI": url},
        variables={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | dict(environment or {}),
    ) as service:
        yield service


@dataclass(frozen=True)
class Team:
    """The servers of compose.yaml. settings: the environment variables of its service `mlflow`."""

    server: Service
    database: Service
    settings: dict[str, str]
    passwords: dict[str, str]

    def account(self, name: str, password: str | None = None) -> dict[str, str]:
        """Return the environment of a client signed in as ``admin`` or ``serving``, by default with its password."""
        variable = {"admin": "MLFLOW_ADMIN_PASSWORD", "serving": "SERVING_PASSWORD"}[name]
        user = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password or self.passwords[variable]}
        return self.server.environment | user


@contextmanager
def team(folder: Path) -> Iterator[Team]:
    """Run compose.yaml's database, object store and MLflow with its commands and environments, without containers.

    PostgreSQL is this machine's and the object store is moto's; addresses and folders are those of this machine.
    """
    passwords = {name: secrets.token_hex(16) for name in compose_file.required()}
    services = compose_file.read(passwords | {"MLFLOW_NAME": NAME})["services"]
    with postgres() as database, object_store(folder, bucket=None) as store:
        here = database.environment | store.environment | {"TMPDIR": str(folder), "HOME": str(folder)}
        here |= {"MLFLOW_AUTH_CONFIG_PATH": str(compose_file.ROOT / "deploy" / "basic_auth.ini")}
        prepare = [sys.executable, str(compose_file.ROOT / "deploy" / "prepare.py")]
        variables = services["prepare"]["environment"] | here
        subprocess.run(prepare, cwd=folder, env=os.environ | variables, check=True, capture_output=True)
        program, verb, *options = services["mlflow"]["command"]
        assert (program, verb) == ("mlflow", "server")
        kept = [option for option in options if not option.startswith(("--host=", "--port=", "--workers="))]
        settings = services["mlflow"]["environment"] | here
        with mlflow_server(folder, *kept, environment=settings) as server:
            yield Team(server, database, settings, passwords)


def answers(url: str) -> bool:
    """Return whether a request to ``url`` succeeds."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def _serving(
    command: Sequence[str | Path],
    folder: Path,
    ready: Callable[[], bool],
    *,
    url: str,
    environment: dict[str, str],
    variables: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
    **user: str | int | list[int],
) -> Iterator[Service]:
    """Run ``command`` in its own process group; enter the block when it is ready, end it with the block."""
    log = folder / f"{Path(command[0]).name}-{secrets.token_hex(4)}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **user,
        )
    service = Service(url, environment, process)
    try:
        deadline = time.monotonic() + START
        while not ready():
            assert process.poll() is None, f"{command[0]} ended:\n{log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"{command[0]} does not answer:\n{log.read_text()[-4000:]}"
            time.sleep(0.1)
        yield service
    finally:
        if process.poll() is None:
            process.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):  # child processes that it left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _unprivileged(folder: Path) -> Iterator[dict[str, str | list[int]]]:
    """Yield Popen's options for a user that PostgreSQL accepts: the caller, or nobody where that is root."""
    if os.getuid():
        yield {}
        return
    shutil.chown(folder, "nobody")
    yield {"user": "nobody", "extra_groups": []}
