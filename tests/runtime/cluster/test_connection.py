"""Clusters that do not answer, do not fit or have other versions: each refusal with its reason and fix."""

import importlib.util
import socket

import pytest
from runtime_settings import runtime

from tunesmith.core.errors import ClusterError

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed: pip install 'tunesmith[ray]'", allow_module_level=True)

from tunesmith.runtime.cluster import connection
from tunesmith.runtime.cluster.connection import Capacity
from tunesmith.runtime.cluster.node_report import Report

HERE: Report = {"name": "home", "python": "3.11", "ray": "2.60.0", "tunesmith": "0.1.0", "image": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Version mismatch: The cluster was started with:\n Ray: 2.59.0\n Python: 3.12.1",
            "runs another version.*\n.*ray==",
        ),
        ("RpcError: Unauthenticated: invalid auth token", "wants a token, and RAY_AUTH_TOKEN is not set here"),
        (
            "This node has an IP address of 10.0.0.9, and Ray can not find it",
            "this machine is no node of it.*\n.*ray://",
        ),
        ("ray client connection timeout", r"does not let this machine in.*\n.*RAY_AUTH_TOKEN is not set here"),
        ("Failed to connect to GCS", r"no Ray cluster answers at head:6379.*\n.*`nc -z head 6379`"),
    ],
)
def test_what_ray_refuses_is_explained(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(connection.TOKEN, raising=False)
    with pytest.raises(ClusterError, match=f"(?s){message}"):
        raise connection.explain(RuntimeError(text), "head:6379")


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for name in (address, f"ray://{address}"):
            with pytest.raises(ClusterError, match=f"no Ray cluster answers at {name}"):
                connection.check_port(name)
    connection.check_port("auto")


def test_a_wrong_token_is_told_from_none_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(connection.TOKEN, "hidden-token")
    error = str(connection.explain(RuntimeError("UNAUTHENTICATED"), "head:6379"))
    assert "is set here, and is not the cluster's" in error
    assert "hidden-token" not in error


NODES: list[Capacity] = [{"name": "a", "cpus": 8, "gpus": 2}, {"name": "b", "cpus": 3, "gpus": 4}]


@pytest.mark.parametrize(
    ("changes", "workers", "room"),
    [({"cpus": 4}, 3, 2), ({"cpus": 1, "gpus_per_worker": 1}, 6, 5), ({"gpus_per_worker": 3}, 2, 1)],
)
def test_a_cluster_that_is_too_small_is_refused_before_anything_travels(
    changes: dict[str, float], workers: int, room: int
) -> None:
    settings = runtime(engine="ray", address="a:1", image=None, **changes)
    connection.check_capacity(NODES, room, settings)
    with pytest.raises(ClusterError, match=f"has room for {room} workers, and the stage wants {workers} workers"):
        connection.check_capacity(NODES, workers, settings)


@pytest.mark.parametrize(("name", "theirs"), [("python", "3.12"), ("ray", "2.59.0"), ("ray", None), ("tunesmith", "0")])
def test_a_node_with_another_version_is_named(name: str, theirs: str | None) -> None:
    node: Report = {**HERE, "name": "10.0.0.7", name: theirs}  # type: ignore[misc]
    connection.check_versions([HERE, {**HERE, "tunesmith": None}], HERE, None)  # an image has its libraries alone
    with pytest.raises(ClusterError, match=f"node 10.0.0.7 has {name} {theirs or 'not installed'}, and this machine"):
        connection.check_versions([HERE, node], HERE, None)


def test_the_nodes_must_run_the_image_that_lineages_will_name() -> None:
    image = "sha256:" + "a" * 64
    connection.check_versions([{**HERE, "image": image}], HERE, image)
    with pytest.raises(ClusterError, match=r"does not say which image it runs in\n.*TUNESMITH_IMAGE_DIGEST"):
        connection.check_versions([HERE], HERE, image)
