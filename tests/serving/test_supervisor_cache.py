"""After a switch, the cache keeps the versions that are served or that a rollback needs."""

import json
import subprocess
import sys
from contextlib import closing

import pytest
from fake_models import BASE_ANSWERS, register, register_champion
from registered_versions import NAME, SIGNING
from serving_settings import SETTINGS

from tunesmith.registry.registered_models import Registry
from tunesmith.serving import model_cache
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.supervisor import Supervisor

pytestmark = pytest.mark.usefixtures("fake_engines")


def cached() -> set[str]:
    """Return the names of the models in the cache."""
    folders = (model_cache.folder() / "versions").glob("*/model/answers.json")
    return {json.loads(path.read_text())["otherwise"] for path in folders}


def test_versions_needed_neither_now_nor_for_a_rollback_leave_the_cache(
    registry: Registry, supervisor: Supervisor, log: list[str]
) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    for model in ("second", "third"):
        register_champion(registry, model)
        supervisor.poll()
    assert cached() == {"second", "third"}
    assert log[-1].startswith("removed from ")
    register_champion(registry, "fourth", BASE_ANSWERS)
    supervisor.poll()
    assert cached() == {"second", "third", "fourth"}, "nothing is removed before another version serves"
    register_champion(registry, "fifth")
    supervisor.poll()
    assert cached() == {"third", "fourth", "fifth"}, "the previous version, and the target of a rollback"


def test_no_other_process_removes_the_served_version(registry: Registry, supervisor: Supervisor) -> None:
    register_champion(registry, "first")
    supervisor.start("@champion")
    subprocess.run(
        [sys.executable, "-c", "from tunesmith.serving import model_cache; model_cache.prune([])"], check=True
    )
    assert cached() == {"first"}


def test_the_target_of_a_rollback_stays_even_if_this_server_never_served_it(registry: Registry, proxy: Proxy) -> None:
    for model in ("first", "second", "third"):
        register_champion(registry, model)
        with closing(Supervisor(registry, NAME, proxy, SETTINGS, SIGNING, lambda _: None)) as supervisor:
            supervisor.start("@champion")
            supervisor.poll()
    assert cached() == {"second", "third"}


def test_a_server_of_a_fixed_version_prunes_nothing(registry: Registry) -> None:
    for model in ("first", "second"):
        register(registry, model)
        with closing(Supervisor(registry, NAME, Proxy(NAME, None), SETTINGS, SIGNING, lambda _: None)) as supervisor:
            supervisor.start(model)
            supervisor.poll()
    assert cached() == {"first", "second"}
