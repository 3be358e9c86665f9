"""The registry on SQLite and on a team's server: concurrent use, accounts, and requests that the server refuses."""

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import cloudpickle
import pytest
import requests
import yaml
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from tests import servers
from tests.registered_versions import NAME, SIGNING, fetch_version, folder, overwrite, register, unprobed
from tests.servers import Team
from tunesmith.core import journal
from tunesmith.core.errors import IntegrityError, RegistryError
from tunesmith.registry import ledger, promotion, publishing, registered_models, signing, versions
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.runs import KEY, Experiment
from tunesmith.registry.trust import ownership

AT_ONCE = 4
T = TypeVar("T")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    if servers.postgres_programs() is None:
        message = "NOT TESTED: the registry on a team's server, for want of PostgreSQL (apt-get install postgresql)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with servers.team(tmp_path_factory.mktemp("team")) as team:
        yield team


@pytest.fixture
def as_admin(team: Team, project: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """The current folder is a project whose registry is the team's server, signed in as its administrator."""
    monkeypatch.setenv("XDG_CONFIG_HOME", team.settings["TMPDIR"])  # one signing key for all tests on one server
    return sign_in(monkeypatch, team, "admin")


def sign_in(monkeypatch: pytest.MonkeyPatch, team: Team, account: str) -> Team:
    for name, value in team.account(account).items():
        monkeypatch.setenv(name, value)
    return team


@pytest.fixture(params=["sqlite", "team"])
def tracker(request: pytest.FixtureRequest, project: Path) -> str:
    """The current folder is a project with its registry on SQLite or on the team's server."""
    if request.param == "team":
        request.getfixturevalue("as_admin")
    return str(request.param)


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> str:
    """A name that is still free on the server that tests share."""
    return f"{request.node.name}-{os.urandom(4).hex()}"


def together(action: Callable[[], T], count: int = AT_ONCE) -> list[T]:
    """Run an action in several threads at the same moment and return their results."""
    barrier = threading.Barrier(count)

    def run(_: int) -> T:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def publish(name: str) -> tuple[str, str, str]:
    experiment, registry = Experiment(name), Registry()
    run = experiment.run("key", "sft-lora", 0, {})
    registry.create(name, {})
    logged = registry.ensure_logged(run, "sft-lora", "d" * 64)
    return experiment.id, run, registry.ensure_version(name, logged, tags={}, description="")


@pytest.mark.real  # half a minute with the registrations below
def test_concurrent_publishers_create_one_experiment_run_and_version(tracker: str, fresh: str) -> None:
    for number in range(5):
        name = f"{fresh}-{number}"
        published = set(together(lambda name=name: publish(name)))
        assert len(published) == 1
        experiment = Experiment(name)
        runs = experiment.client.search_runs([experiment.id], run_view_type=ViewType.ACTIVE_ONLY)
        assert [(experiment.id, run.info.run_id, "1") for run in runs] == list(published)
        assert [version.number for version in Registry().versions(name)] == ["1"]


def test_processes_can_open_a_new_database_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with multiprocessing.get_context("spawn").Pool(AT_ONCE) as pool:
        assert len(set(pool.map(publish, ["new"] * AT_ONCE, chunksize=1))) == 1


def test_versions_are_listed_over_all_pages(tracker: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request answers 10,000 of them at most, and an entry that is left out would look deleted."""
    registry = Registry()
    register(registry, folder(project))
    before = registry.versions(NAME)
    added = [registry.add_version(NAME, before[0], {}, "") for _ in range(4)]
    monkeypatch.setattr(registered_models, "PAGE", 2)
    assert [version.number for version in registry.versions(NAME)] == [*reversed(added), *(v.number for v in before)]


@pytest.mark.real
def test_a_model_that_is_registered_concurrently_is_one_version(tracker: str, project: Path) -> None:
    path = folder(project, os.urandom(8))
    key = os.urandom(4).hex()
    signing.private_key(SIGNING)
    numbers = together(lambda: register(Registry(), path, key))
    registry = Registry()
    assert len(set(numbers)) == 1
    run = Experiment("arithmetic").run(key, "", 0, {})
    assert [version.number for version in registry.versions(NAME) if version.run == run] == [numbers[0]]
    assert fetch_version(registry, versions.choose(registry, NAME, numbers[0], SIGNING), project)


def test_a_deleted_run_is_restored(tracker: str, fresh: str) -> None:
    experiment = Experiment(fresh)
    run = experiment.run("key", "m", 0, {})
    experiment.client.delete_run(run)
    assert experiment.run("key", "m", 0, {}) == run
    assert experiment.client.get_run(run).info.lifecycle_stage == "active"


def test_a_run_left_by_a_process_killed_while_creating_it_is_used(tracker: str, fresh: str) -> None:
    experiment = Experiment(fresh)
    left = experiment.client.create_run(experiment.id, tags={KEY: "key"}).info.run_id
    assert experiment.run("key", "m", 0, {}) == left


def test_publishing_a_training_again_to_a_server_adds_nothing(as_admin: Team, project: Path, fresh: str) -> None:
    with journal.Journal(project / "j") as log:
        log.write(
            "start", key="k", model="sft-lora", method="SFT", device="cpu", params={"sft": {"sft-lora": {"lr": 1}}}
        )
        for step in range(1, 4):
            log.write("step", step=step, loss=1.0 / step)
        log.write("end", steps=3, seconds=2.0)
    experiment = Experiment(fresh)
    events = journal.read(project / "j")
    runs = {publishing.publish_training(experiment, part) for part in (events[:2], events, events)}
    (run,) = runs
    points = [(point.step, point.value) for point in experiment.client.get_metric_history(run, "training/loss")]
    assert sorted(points) == [(step, 1.0 / step) for step in range(1, 4)]


def test_a_model_is_registered_promoted_and_fetched_without_credentials_of_the_object_store(
    as_admin: Team, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    path = folder(project, os.urandom(8))
    number = register(registry, path, key=os.urandom(4).hex())
    alias = f"a{number}"
    promotion.promote(registry, NAME, number, signing=SIGNING, probe=unprobed, alias=alias, reason="to be served")
    assert registry.alias(NAME, alias) == number
    assert ledger.read(registry, NAME, SIGNING).faults == []
    sign_in(monkeypatch, as_admin, "serving")
    reader = Registry()
    chosen = versions.choose(reader, NAME, f"@{alias}", SIGNING)
    (project / "into").mkdir()
    files = fetch_version(reader, chosen, project / "into")
    assert (files.folder / "adapter_model.safetensors").read_bytes() == (
        path / "adapter_model.safetensors"
    ).read_bytes()


def test_a_mark_fits_into_the_database(tracker: str, fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature with a chain of certificates, or by Sigstore, is many times as long as one by a key."""
    registry, signature = Registry(), os.urandom(6000).hex()
    monkeypatch.setattr(signing, "sign_text", lambda text, by: signature)
    ownership.create(registry, fresh, SIGNING)
    signed: list[str] = []
    monkeypatch.setattr(signing, "verify_text", lambda text, signature, by, **_: signed.append(signature))
    assert ownership.check(registry, fresh, SIGNING)
    assert signed == [signature]


def test_a_ledger_that_another_account_created_first_is_refused(
    as_admin: Team, project: Path, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, as_admin, "serving")
    squatter = Registry()
    squatter.client.create_registered_model(ledger.name_of(fresh))
    sign_in(monkeypatch, as_admin, "admin")
    registry = Registry()
    with pytest.raises(IntegrityError, match=f"{fresh}-promotions was made by somebody else"):
        register(registry, folder(project), os.urandom(4).hex(), name=fresh)
    assert registry.versions(fresh) == []
    registry.client.delete_registered_model(ledger.name_of(fresh))
    number = register(registry, folder(project), os.urandom(4).hex(), name=fresh)
    promotion.promote(registry, fresh, number, signing=SIGNING, probe=unprobed)
    assert ledger.read(registry, fresh, SIGNING).verified(fresh).head("champion")


def test_an_account_that_may_not_register_a_model_creates_no_ledger_for_it(
    as_admin: Team, project: Path, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(fresh)
    sign_in(monkeypatch, as_admin, "serving")
    registry = Registry()
    with pytest.raises(RegistryError, match="ask its owner"):
        ledger.create(registry, fresh, SIGNING)
    assert registry.tags(ledger.name_of(fresh)) is None


@pytest.mark.parametrize(
    "source",
    ["s3://mlflow/artifacts/1", "http://example.com/m", "/etc", "mlflow-artifacts://h/1"],
    ids=["its bucket", "an address", "a folder", "another server"],
)
def test_a_version_has_no_source_that_the_server_does_not_keep(as_admin: Team, fresh: str, source: str) -> None:
    registry = Registry()
    registry.create(fresh, {})
    with pytest.raises(MlflowException, match=r"[Ii]nvalid"):
        registry.client.create_model_version(fresh, source)


def test_artifacts_overwritten_on_a_server_are_not_promoted(as_admin: Team, project: Path) -> None:
    registry = Registry()
    number = register(registry, folder(project, os.urandom(8)), key=os.urandom(4).hex())
    version = next(version for version in registry.versions(NAME) if version.number == number)
    overwrite(registry, version, folder(project, b"other"))
    with pytest.raises(IntegrityError, match="changed after registration"):
        promotion.promote(registry, NAME, number, signing=SIGNING, probe=unprobed, alias="other", reason="r")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (servers.NAME, f"https://{servers.NAME}", 200),  # a browser, by way of the proxy
        ("localhost:5000", "http://localhost:5000", 200),
        (servers.NAME, "https://elsewhere.example.com", 403),
        ("elsewhere.example.com", "https://elsewhere.example.com", 403),
    ],
)
def test_browsers_reach_the_server_by_its_name_and_pages_of_other_sites_do_not(
    team: Team, host: str, origin: str, status: int
) -> None:
    answer = requests.post(
        f"{team.server.url}/ajax-api/2.0/mlflow/experiments/search",
        json={"max_results": 1},
        headers={"Host": host, "Origin": origin},
        auth=("admin", team.passwords["MLFLOW_ADMIN_PASSWORD"]),
        timeout=30,
    )
    assert answer.status_code == status, answer.text


def test_the_serving_account_may_read_and_may_not_change_what_others_own(
    as_admin: Team, project: Path, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run, number = publish(fresh)
    sign_in(monkeypatch, as_admin, "serving")
    registry, experiment = Registry(), Experiment(fresh)
    assert [version.number for version in registry.versions(fresh)] == [number]
    forbidden: list[Callable[[], object]] = [
        lambda: experiment.run("another", "m", 0, {}),
        lambda: registry.move_alias(fresh, "champion", number),
        lambda: registry.upload(run, folder(project)),
        lambda: registry.remove_version(fresh, number),
    ]
    for action in forbidden:
        with pytest.raises(RegistryError, match="ask its owner"):
            action()


@pytest.mark.parametrize("password", ["wrong", None], ids=["wrong", "none"])
def test_a_wrong_password_is_a_clear_error(
    as_admin: Team, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    with pytest.raises(RegistryError, match="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
        Registry()


ROUTES = [
    ("GET", "/"),
    ("GET", "/api/2.0/mlflow/experiments/search?max_results=1"),
    ("POST", "/api/2.0/mlflow/registered-models/alias"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/x"),
    ("POST", "/ajax-api/3.0/jobs/"),
    ("POST", "/ajax-api/3.0/jobs/search"),
    ("POST", "/v1/traces"),
    ("GET", "/gateway/x/mlflow/invocations"),
    ("POST", "/graphql"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_without_an_account(team: Team, method: str, path: str) -> None:
    answer = requests.request(method, team.server.url + path, json={}, timeout=20)
    assert answer.status_code in (401, 403, 404, 405), answer.text[:200]


def test_a_request_for_another_host_is_refused(team: Team) -> None:
    answer = requests.get(f"{team.server.url}/", headers={"Host": "evil.example"}, timeout=20)
    assert (answer.status_code, "Invalid Host header" in answer.text) == (403, True)


def test_the_server_runs_no_jobs_even_for_its_administrator(team: Team) -> None:
    answer = requests.post(
        f"{team.server.url}/ajax-api/3.0/jobs/",
        json={"job_name": "invoke_scorer", "params": {}},
        auth=("admin", team.passwords["MLFLOW_ADMIN_PASSWORD"]),
        timeout=60,
    )
    assert answer.status_code >= 400
    assert "job execution feature is not enabled" in answer.text


@pytest.mark.parametrize(("allowed", "ran"), [("as on the server", False), ("true", True)])
def test_the_servers_settings_refuse_to_load_a_pickle(team: Team, tmp_path: Path, allowed: str, ran: bool) -> None:
    """The pickle would create a folder when loaded, and does with MLflow's own default."""

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.pkl").write_bytes(cloudpickle.dumps(Evil()))
    flavor = {"loader_module": "mlflow.pyfunc.model", "python_model": "model.pkl", "python_version": "3.11.0"}
    (tmp_path / "model" / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}))
    switch = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
    settings = {switch: team.settings[switch] if allowed == "as on the server" else allowed}
    load = f"import mlflow; mlflow.pyfunc.load_model({str(tmp_path / 'model')!r})"
    done = subprocess.run([sys.executable, "-c", load], env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode != 0
    assert (tmp_path / "ran").exists() is ran
    assert ("using pickle is disallowed" in done.stderr) is not ran


def test_artifacts_pass_through_the_server_so_clients_need_no_access_to_the_object_store(
    as_admin: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = set()
    request = requests.Session.request

    def recorded(session: requests.Session, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        hosts.add(urlsplit(url).netloc)
        return request(session, method, url, *args, **kwargs)

    monkeypatch.setattr(requests.Session, "request", recorded)
    (tmp_path / "file").write_text("content")
    experiment = Experiment("arithmetic")
    run = experiment.run("key", "name", 0, {})
    experiment.upload(run, tmp_path / "file")
    assert experiment.download(f"{experiment.artifacts(run)}/file", tmp_path).read_text() == "content"
    assert hosts == {urlsplit(as_admin.server.url).netloc}
