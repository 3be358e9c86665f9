"""The rules that compose.yaml sets for every service. Real services: test_stack.py."""

import configparser
import os
import re
import shutil
import subprocess
from typing import Any

import pytest
from click.testing import CliRunner

from tests import compose_file
from tests.compose_file import ROOT, MissingError
from tunesmith.cli.main import main

VARIABLES = {name: f"value-{name.lower()}" for name in compose_file.required()}
SERVICES: dict[str, dict[str, Any]] = compose_file.read(VARIABLES)["services"]
ENDS = {"prepare"}
"""Services that do their work and exit, and so have no health check."""


def services_with(key: str) -> list[str]:
    """The services that have this key."""
    return [name for name, service in SERVICES.items() if key in service]


@pytest.mark.parametrize("missing", VARIABLES)
@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_compose_refuses_to_start_without_a_password(missing: str, value: str | None) -> None:
    others = {name: text for name, text in VARIABLES.items() if name != missing}
    with pytest.raises(MissingError, match=f"{missing}: set it in .env"):
        compose_file.read(others | ({} if value is None else {missing: value}))


def test_every_secret_comes_from_the_environment() -> None:
    secrets = re.compile("PASSWORD|SECRET")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if secrets.search(variable):
                assert value in VARIABLES.values(), f"{name}: {variable} has a value of its own"


def test_the_files_in_deploy_hold_no_secret() -> None:
    example = dict(line.split("=") for line in (ROOT / "deploy/example.env").read_text().splitlines() if "=" in line)
    assert example == dict.fromkeys(VARIABLES, "")
    settings = configparser.ConfigParser()
    settings.read(ROOT / "deploy/basic_auth.ini")
    assert "admin_password" not in settings["mlflow"]
    assert "@" not in settings["mlflow"]["database_uri"]


def test_passwords_are_left_out_of_git_and_of_images() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    assert any(line in (".env", ".env*") for line in (ROOT / ".dockerignore").read_text().splitlines())


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_a_version(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition("@")[0].rpartition(":")
    assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-[a-z]+)?", tag)


def test_each_image_is_built_by_one_service_that_starts_first() -> None:
    """Compose builds services at once, and two that export one name can fail."""
    assert services_with("build") == ["prepare"]
    assert {SERVICES[name]["image"] for name in ("prepare", "mlflow", "serve", "serve-gpu")} == {
        SERVICES["prepare"]["image"]
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices"} & service.keys()
    assert not any("docker.sock" in volume for volume in service["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_can_take_all_memory_or_processes_of_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*g", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 4096


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_that_keeps_running_has_a_health_check(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) is (name not in ENDS)


@pytest.mark.parametrize("name", services_with("ports"))
def test_ports_are_on_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


def test_the_database_and_the_store_have_no_network_but_the_inner_one_and_no_ports() -> None:
    assert compose_file.read(VARIABLES)["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "store"):
        assert SERVICES[name]["networks"] == ["inside"]
        assert "ports" not in SERVICES[name]


def test_volumes_are_named_or_read_only_folders_of_the_project() -> None:
    volumes = compose_file.read(VARIABLES)["volumes"]
    for name, service in SERVICES.items():
        for volume in service["volumes"]:
            source, _, rest = volume.partition(":")
            assert source in volumes or (source.startswith("./") and rest.endswith(":ro")), f"{name}: {volume}"


def test_every_mounted_file_exists() -> None:
    mounted = {v.split(":")[0] for service in SERVICES.values() for v in service["volumes"] if v.startswith("./")}
    assert {path for path in mounted if not (ROOT / path).exists()} <= {"./keys"}  # a team's own


def test_services_start_in_order() -> None:
    order = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    assert order["prepare"] == {"postgres": "service_healthy", "store": "service_healthy"}
    assert order["mlflow"] == {"prepare": "service_completed_successfully"}
    assert order["serve"] == order["serve-gpu"] == {"mlflow": "service_healthy"}


def test_only_the_gpu_profile_asks_for_a_gpu() -> None:
    assert services_with("profiles") == ["serve", "serve-gpu"]
    assert services_with("deploy") == ["serve-gpu"]
    assert (SERVICES["serve"]["profiles"], SERVICES["serve-gpu"]["profiles"]) == (["cpu"], ["gpu"])
    assert SERVICES["serve"]["command"] == SERVICES["serve-gpu"]["command"]


def test_the_serving_containers_have_only_the_password_of_the_account_that_reads() -> None:
    for name in ("serve", "serve-gpu"):
        own = set(SERVICES[name]["environment"].values()) & set(VARIABLES.values())
        assert own == {VARIABLES["SERVING_PASSWORD"]}


def test_the_serving_containers_command_exists() -> None:
    program, *arguments = SERVICES["serve"]["command"]
    assert program == "tunesmith"
    assert CliRunner().invoke(main, [*arguments, "--help"]).exit_code == 0


def test_compose_accepts_the_file() -> None:
    """Where Compose is installed, in either of its two major versions."""
    commands = [["docker", "compose"], ["docker-compose"]]
    installed = [command for command in commands if shutil.which(command[0]) and _runs([*command, "version"])]
    if not installed:
        pytest.skip("NOT TESTED: compose.yaml by Compose itself (apt-get install docker-compose)")
    whole = [
        *installed[0],
        "--file",
        str(compose_file.PATH),
        "--profile",
        "cpu",
        "--profile",
        "gpu",
        "config",
        "--quiet",
    ]
    assert subprocess.run(whole, env=_environment(VARIABLES), check=False).returncode == 0
    refused = subprocess.run(whole, env=_environment({}), check=False, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "set it in .env" in refused.stderr


def _runs(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _environment(given: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return kept | given | {"COMPOSE_DISABLE_ENV_FILE": "1"}
