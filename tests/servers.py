"""Real servers on loopback for tests and benchmarks, each for as long as its block: PostgreSQL, an S3 store, MLflow."""

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
"""Where Debian puts PostgreSQL, by version, off the PATH."""
START = 120.0
"""Seconds that a server may take to answer; two cores that do much else are slow."""
HOST = "127.0.0.1"
NAME = "mlflow.example.com"
"""By which a proxy in front of a team's MLflow is reached."""


@dataclass(frozen=True)
class Service:
    """A server that answers. environment: how its clients are told of it; process: the leader of its process group."""

    url: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it at once, with all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def postgres_programs() -> Path | None:
    """The folder with initdb and postgres, of the newest version; None where PostgreSQL is not installed."""
    installed = sorted(Path(DEBIAN).glob("[0-9]*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextmanager
def postgres(database: str = "mlflow") -> Iterator[Service]:
    """A new PostgreSQL cluster with one database, reached by a password; libpq's variables are its environment."""
    programs = postgres_programs()
    assert programs is not None, "PostgreSQL is not installed: apt-get install postgresql"
    folder, port, password = Path(tempfile.mkdtemp(prefix="tunesmith-postgres-")), free_port(), secrets.token_hex(16)
    variables = {"PGHOST": HOST, "PGPORT": str(port), "PGUSER": "tunesmith", "PGPASSWORD": password}
    environment = variables | {"PGDATABASE": database}
    try:
        with _unprivileged(folder) as whose:
            (folder / "password").write_text(password)
            initialise = [programs / "initdb", "-D", folder / "data", "-U", "tunesmith", "-A", "scram-sha-256"]
            options = ["--pwfile", folder / "password", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
            subprocess.run([*initialise, *options], check=True, capture_output=True, cwd=folder, **whose)
            settings = {"listen_addresses": HOST, "unix_socket_directories": str(folder), "max_connections": "200"}
            given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            command = [programs / "postgres", "-D", folder / "data", "-p", str(port), *given]
            ask = [programs / "pg_isready", "-q", "-d", "postgres"]
            with _serving(
                command,
                folder,
                lambda: subprocess.run(ask, env=os.environ | variables, check=False).returncode == 0,
                url=f"postgresql+psycopg2://tunesmith:{password}@{HOST}:{port}/{database}",
                environment=environment,
                polite=signal.SIGINT,  # what PostgreSQL calls a fast shutdown
                **whose,
            ) as service:
                subprocess.run([programs / "createdb", database], check=True, env=os.environ | variables)
                yield service
    finally:
        shutil.rmtree(folder)


@contextmanager
def object_store(folder: Path, bucket: str | None = "mlflow") -> Iterator[Service]:
    """moto's S3 server, with an empty bucket if one is named."""
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
            told = {"aws_access_key_id": "key", "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"]}
            boto3.client("s3", endpoint_url=url, region_name="us-east-1", **told).create_bucket(Bucket=bucket)
        yield service


@contextmanager
def mlflow_server(
    folder: Path, *options: str, environment: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[Service]:
    """`mlflow server` in ``folder``; without options, on SQLite and a folder there."""
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
    """What compose.yaml starts. settings: of its service `mlflow`, as environment variables."""

    server: Service
    database: Service
    settings: dict[str, str]
    passwords: dict[str, str]

    def account(self, name: str, password: str | None = None) -> dict[str, str]:
        """The environment of a client that signs in as ``admin`` or ``serving``, with its own password unless told."""
        variable = {"admin": "MLFLOW_ADMIN_PASSWORD", "serving": "SERVING_PASSWORD"}[name]
        user = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password or self.passwords[variable]}
        return self.server.environment | user


@contextmanager
def team(folder: Path) -> Iterator[Team]:
    """compose.yaml's database, object store and MLflow with its commands and environments, without containers.

    PostgreSQL and the object store are those of this machine and moto's; addresses and folders are this machine's.
    """
    passwords = {name: secrets.token_hex(16) for name in compose_file.required()}
    services = compose_file.read(passwords | {"MLFLOW_NAME": NAME})["services"]
    with postgres() as database, object_store(folder, bucket=None) as store:
        here = database.environment | store.environment | {"TMPDIR": str(folder), "HOME": str(folder)}
        here |= {"MLFLOW_AUTH_CONFIG_PATH": str(compose_file.ROOT / "deploy" / "basic_auth.ini")}
        prepare = [sys.executable, str(compose_file.ROOT / "deploy" / "prepare.py")]
        told = services["prepare"]["environment"] | here
        subprocess.run(prepare, cwd=folder, env=os.environ | told, check=True, capture_output=True)
        program, verb, *options = services["mlflow"]["command"]
        assert (program, verb) == ("mlflow", "server")
        kept = [option for option in options if not option.startswith(("--host=", "--port=", "--workers="))]
        settings = services["mlflow"]["environment"] | here
        with mlflow_server(folder, *kept, environment=settings) as server:
            yield Team(server, database, settings, passwords)


def answers(url: str) -> bool:
    """Whether a request to ``url`` is answered with success."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def free_port() -> int:
    """A port that nothing listens on now."""
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
    polite: signal.Signals = signal.SIGTERM,
    **whose: str | int | list[int],
) -> Iterator[Service]:
    """Run ``command`` in a process group of its own, from when it is ready until the block ends."""
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
            **whose,
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
            process.send_signal(polite)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):  # what it started and left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _unprivileged(folder: Path) -> Iterator[dict[str, str | list[int]]]:
    """Who is to run PostgreSQL, which refuses to as root: the caller, or nobody, who is given ``folder``."""
    if os.getuid():
        yield {}
        return
    shutil.chown(folder, "nobody")
    yield {"user": "nobody", "extra_groups": []}
