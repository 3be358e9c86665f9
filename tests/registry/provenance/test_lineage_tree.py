from typing import Any

import pytest
from lineages import ORIGIN

from tunesmith.registry.ledger import Entry
from tunesmith.registry.provenance import lineage_tree
from tunesmith.registry.provenance.lineage_tree import Base, Code, Evidence, Files, Image, Lock, Node, Params, Record
from tunesmith.registry.registered_models import Version

VERSION = Version("3", "run", {"tunesmith.statement": "signed"})
CLAIMS: dict[str, Any] = {"outcome": "pass", "evidence": "better", "files": {"probes.json": "p"}}
ENTRY = Entry(
    parent=None,
    of="m",
    alias="champion",
    kind="promotion",
    model="sft",
    version="3",
    previous=None,
    who="ada",
    when="today",
    why="passed the gate",
    evidence="better",
    digest="d",
    statement="signed",
    nonce="n",
)
ISSUE = ["base model", "data", "code", "params", "lock", "image", "hardware", "parent models"]


def tree(origin: dict[str, Any] | None = ORIGIN, **more: Any) -> Node:
    return lineage_tree.tree(Record("sft", "m version 3", VERSION, "d", origin, **more))


def child(node: Node, name: str) -> Node:
    [found] = [one for one in node.children if one.name == name]
    return found


def test_every_part_that_a_model_is_made_of_is_there_in_one_order() -> None:
    assert [one.name for one in tree().children] == ISSUE
    judged = tree(claims=CLAIMS, entries=(ENTRY,), aliases=("champion",))
    assert [one.name for one in judged.children] == [*ISSUE, "evaluation", "promotion"]


def test_each_part_has_its_digest_and_what_checks_it() -> None:
    node = tree(claims=CLAIMS, entries=(ENTRY,), aliases=("champion",))
    assert (node.digest, node.check) == ("d", Files(VERSION, "d", ORIGIN))
    assert (child(node, "base model").digest, child(node, "base model").check) == (
        "base",
        Base("package demo==1 sha256:abc", "base"),
    )
    assert child(node, "data").children[0].digest == "rows"
    assert (child(node, "code").digest, child(node, "code").check) == ("c" * 40, Code("c" * 40, True))
    assert child(node, "params").check == Params("c" * 40, ORIGIN["params"])
    assert (child(node, "lock").digest, child(node, "lock").check) == ("lock", Lock("c" * 40, "lock"))
    assert (child(node, "evaluation").digest, child(node, "evaluation").check) == (
        "signed",
        Evidence(VERSION, CLAIMS),
    )
    assert child(node, "evaluation").children == (Node("probes.json", "", "p"),)
    assert child(node, "promotion").digest == ENTRY.hash


def test_equal_params_have_one_digest_in_whatever_order() -> None:
    turned = ORIGIN | {"params": dict(reversed(ORIGIN["params"].items()))}
    assert child(tree(turned), "params").digest == child(tree(), "params").digest
    other = ORIGIN | {"params": ORIGIN["params"] | {"lora": {"rank": 3}}}
    assert child(tree(other), "params").digest != child(tree(), "params").digest


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ({"commit": None, "clean": None}, "no git checkout"),
        ({"commit": "c" * 40, "clean": False}, "with uncommitted changes"),
        ({"commit": "c" * 40, "clean": True}, "all committed"),
    ],
)
def test_code_says_whether_the_commit_is_all_of_it(code: dict[str, Any], says: str) -> None:
    assert child(tree(ORIGIN | {"code": code}), "code").what == says


def test_an_image_has_its_digest_and_the_host_has_none() -> None:
    assert child(tree(), "image") == Node("image", "none: made on the host")
    inside = ORIGIN | {"environment": ORIGIN["environment"] | {"image_digest": "sha256:i"}}
    assert child(tree(inside), "image").check == Image("sha256:i")


def test_what_is_not_recorded_has_nothing_to_check() -> None:
    bare = ORIGIN | {"environment": ORIGIN["environment"] | {"lock_sha256": None}}
    assert child(tree(bare), "lock").check is None


def test_a_parent_is_a_tree_of_its_own() -> None:
    parent = Record("sft-lora", "version 1", None, "p", ORIGIN, parents=(Record("older", "nowhere", None, "o", None),))
    [shown] = child(tree(parents=(parent,)), "parent models").children
    assert [one.name for one in shown.children] == ISSUE
    [oldest] = child(shown, "parent models").children
    assert (oldest.name, oldest.digest, oldest.children) == ("older", "o", ())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "never promoted"),
        ({"entries": (ENTRY,), "aliases": ("champion",)}, "champion now"),
        ({"entries": (ENTRY,)}, "once, no longer"),
        ({"faults": ("version 2 of m-promotions is not an entry",)}, "never promoted; the history was edited"),
    ],
)
def test_promotion_says_what_is_now(more: dict[str, Any], says: str) -> None:
    assert child(tree(claims=CLAIMS, **more), "promotion").what.startswith(says)


def test_walking_meets_every_node_once() -> None:
    node = tree(parents=(Record("older", "nowhere", None, "o", None),))
    assert [one.name for one in node.walk()].count("older") == 1
    assert len(list(node.walk())) == 1 + len(ISSUE) + 2
