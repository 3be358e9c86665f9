"""The tree of a model's lineage: every part, with its digest and its check."""

from typing import Any

import pytest
from lineages import ORIGIN

from tunesmith.registry.provenance import lineage_tree
from tunesmith.registry.provenance.lineage_tree import Base, Code, Evidence, Files, Image, Lock, Node, Params, Record
from tunesmith.registry.registered_models import Version
from tunesmith.registry.trust.chain import Entry

VERSION = Version("3", "run", {"tunesmith.statement": "signed"}, "")
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
PARTS = ["base model", "data", "code", "params", "lock", "image", "hardware", "parent models"]


def tree(origin: dict[str, Any] | None = ORIGIN, **more: Any) -> Node:
    return lineage_tree.tree(Record("sft", "m version 3", VERSION, "d", origin, **more))


def child(node: Node, name: str) -> Node:
    [match] = [child for child in node.children if child.name == name]
    return match


def test_every_part_of_a_model_is_shown_in_a_fixed_order() -> None:
    assert [part.name for part in tree().children] == PARTS
    registered = tree(claims=CLAIMS, entries=(ENTRY,), aliases=("champion",))
    assert [part.name for part in registered.children] == [*PARTS, "evaluation", "promotion"]


def test_each_part_has_its_digest_and_its_check() -> None:
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


def test_the_digest_of_params_does_not_depend_on_their_order() -> None:
    reordered = ORIGIN | {"params": dict(reversed(ORIGIN["params"].items()))}
    assert child(tree(reordered), "params").digest == child(tree(), "params").digest
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
def test_code_says_whether_everything_was_committed(code: dict[str, Any], says: str) -> None:
    assert child(tree(ORIGIN | {"code": code}), "code").what == says


def test_an_image_has_a_digest_and_the_host_has_none() -> None:
    assert child(tree(), "image") == Node("image", "none: made on the host")
    inside = ORIGIN | {"environment": ORIGIN["environment"] | {"image_digest": "sha256:i"}}
    assert child(tree(inside), "image").check == Image("sha256:i")


def test_an_unrecorded_part_has_no_check() -> None:
    bare = ORIGIN | {"environment": ORIGIN["environment"] | {"lock_sha256": None}}
    assert child(tree(bare), "lock").check is None


def test_a_parent_is_shown_with_its_own_tree() -> None:
    parent = Record("sft-lora", "version 1", None, "p", ORIGIN, parents=(Record("older", "nowhere", None, "o", None),))
    [shown] = child(tree(parents=(parent,)), "parent models").children
    assert [part.name for part in shown.children] == PARTS
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
def test_promotion_shows_the_current_state(more: dict[str, Any], says: str) -> None:
    assert child(tree(claims=CLAIMS, **more), "promotion").what.startswith(says)


def test_walk_yields_every_node_once() -> None:
    node = tree(parents=(Record("older", "nowhere", None, "o", None),))
    assert [part.name for part in node.walk()].count("older") == 1
    assert len(list(node.walk())) == 1 + len(PARTS) + 2
