"""Each digest is verified if it can be reached; a difference is not confused with an unreachable one."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tiny_vision
import yaml

from tunesmith.core import manifest, ready_rows
from tunesmith.core.errors import ContainerError, IntegrityError, RegistryError, SigningError, TunesmithError
from tunesmith.registry.provenance import verification
from tunesmith.registry.provenance.lineage_tree import (
    Base,
    Check,
    Code,
    Data,
    Evidence,
    Files,
    Image,
    Lock,
    Node,
    Params,
    Promotions,
    Proof,
)
from tunesmith.registry.provenance.verification import Reach
from tunesmith.registry.registered_models import Version
from tunesmith.registry.trust.chain import Entry
from tunesmith.registry.versions import VersionFiles

VERSION = Version("1", "run", {}, "")
PARAMS: dict[str, Any] = {"sft": {"sft-lora": {"lora": {"rank": 2, "alpha": 4.0}, "learning_rate": 0.001}}}
EFFECTIVE: dict[str, Any] = {"sft": {"sft-lora": PARAMS["sft"]["sft-lora"] | {"seed": 20}}}
"""With a default."""
LINEAGE = {"source": "a package"}


def entry(digest: str) -> Entry:
    values = dict.fromkeys(("parent", "previous"))
    texts = ("of", "alias", "model", "version", "who", "when", "why", "evidence", "statement", "nonce")
    return Entry(**values, **dict.fromkeys(texts, "x"), kind="promotion", digest=digest)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with a base, a model, rows and a lock."""
    for name in ("base", "sft"):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"w" * 100)
        (folder / "lineage.json").write_text(json.dumps(LINEAGE))
        manifest.write(folder)
    (tmp_path / "data" / "ready").mkdir(parents=True)
    (tmp_path / "data" / "ready" / "train.jsonl").write_text("rows\n")
    (tmp_path / "requirements.lock").write_text("torch==1\n")
    text = yaml.safe_dump(PARAMS).replace("0.001", "1e-3")  # which YAML reads as a text
    (tmp_path / "params.yaml").write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "params.yaml", "requirements.lock")
    git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "c")
    (tmp_path / "params.yaml").write_text("sft: {sft-lora: {lora: {rank: 9}}}\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path) -> str:
    return git(root, "rev-parse", "HEAD")


def digest(root: Path, model: str) -> str:
    return manifest.read(root / "models" / model).digest


def prove(check: Check, root: Path, **reach: Any) -> Proof:
    node = verification.verified(
        Node("it", "", None, (), check),
        Reach(root, **{"fetch": lost, "fetch_claims": lost, "find_image": lost} | reach),
    )
    assert node.proof is not None
    return node.proof


def lost(_: object) -> Any:
    raise RegistryError("the tracker is away", fix="start it")


def test_every_byte_of_a_local_base_is_checked(root: Path) -> None:
    check = Base("a package", digest(root, "base"))
    assert prove(check, root).mark == "verified"
    weights = root / "models" / "base" / "model.safetensors"
    weights.write_bytes(b"w" * 99 + b"x")
    assert prove(check, root) == Proof(
        "differs", f"{root}/models/base: differs from its manifest: model.safetensors (changed)"
    )
    manifest.write(root / "models" / "base")
    assert "expected" in prove(check, root).says
    assert prove(check, root).mark == "differs"


def test_another_local_base_is_unreachable_and_not_a_difference(root: Path) -> None:
    proof = prove(Base("another package", "0" * 64), root)
    assert proof == Proof("unreachable", "models/base here is another base: a package")


def test_a_missing_base_is_unreachable(root: Path) -> None:
    (root / "models" / "base").rename(root / "models" / "away")
    assert prove(Base("a package", "d"), root).mark == "unreachable"


def rows(root: Path, cached: str | None = None) -> Data:
    return Data("data/ready/train.jsonl", hashlib.sha256(b"rows\n").hexdigest(), cached)


def test_local_rows_are_verified_and_changed_rows_differ(root: Path) -> None:
    assert prove(rows(root), root) == Proof("verified", "here")
    (root / "data" / "ready" / "train.jsonl").write_text("other rows\n")
    assert prove(rows(root), root).mark == "differs"


def test_images_of_local_rows_are_verified_and_a_changed_one_differs(root: Path) -> None:
    ready = root / "data" / "ready"
    red, blue = tiny_vision.draw(ready / "images", ["red", "blue"])
    ready_rows.write_jsonl(ready / "train.jsonl", [{"id": "r", "prompt": tiny_vision.ask(red, blue)}])
    digest = hashlib.sha256((ready / "train.jsonl").read_bytes()).hexdigest()
    check = Data("data/ready/train.jsonl", digest, None, 2)
    assert prove(check, root) == Proof("verified", "here, with 2 images, every byte")
    file = ready / "images" / f"{red['image']}.png"
    content = file.read_bytes()
    file.write_bytes(content + b"\0")
    assert prove(check, root) == Proof("differs", f"images/{file.name}: its bytes differ from its name")
    file.unlink()
    assert prove(check, root).mark == "unreachable"


def test_replaced_rows_are_found_in_the_cache(root: Path) -> None:
    (root / "data" / "ready" / "train.jsonl").write_text("other rows\n")
    name = hashlib.md5(b"rows\n").hexdigest()
    cached = root / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:]
    cached.parent.mkdir(parents=True)
    cached.write_text("rows\n")
    assert prove(rows(root, f"md5:{name}"), root) == Proof("verified", "in DVC's cache")
    cached.write_text("tampered\n")
    assert prove(rows(root, f"md5:{name}"), root).mark == "differs"


def test_rows_of_a_later_data_set_are_unreachable_and_not_a_difference(root: Path) -> None:
    (root / "data" / "ready" / "train.jsonl").write_text("other rows\n")
    outs = [{"path": "data/ready", "hash": "md5", "md5": "fresh.dir"}]
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"prepare": {"outs": outs}}}))
    assert prove(rows(root, "md5:" + "0" * 32 + ".dir"), root).mark == "unreachable"
    assert prove(rows(root, "md5:fresh.dir"), root).mark == "differs"  # it should be these very rows


@pytest.mark.parametrize(
    ("known", "clean", "mark"), [(True, True, "verified"), (True, False, "unreachable"), (False, True, "unreachable")]
)
def test_a_commit_is_verified_if_it_is_here_and_nothing_was_uncommitted(
    root: Path, known: bool, clean: bool, mark: str
) -> None:
    assert prove(Code(commit(root) if known else "0" * 40, clean), root).mark == mark


@pytest.mark.parametrize("check", [Code(None, False), Params(None, {}), Lock(None, "l")])
def test_without_a_commit_code_params_and_lock_are_unreachable(root: Path, check: Check) -> None:
    assert prove(check, root).mark == "unreachable"


def test_params_without_a_document_are_compared_with_the_commit_and_not_with_the_working_tree(root: Path) -> None:
    assert prove(Params(commit(root), EFFECTIVE), root).mark == "verified"
    other = {"sft": {"sft-lora": EFFECTIVE["sft"]["sft-lora"] | {"lora": {"rank": 3, "alpha": 4.0}}}}
    assert prove(Params(commit(root), other), root) == Proof(
        "differs", "params.yaml at the commit has other values: sft.sft-lora.lora.rank"
    )
    assert prove(Params(commit(root), EFFECTIVE | {"dpo": {"dpo": {}}}), root).mark == "differs"
    assert prove(Params("0" * 40, EFFECTIVE), root).mark == "unreachable"


def test_recorded_params_yaml_must_give_the_effective_params(root: Path) -> None:
    assert prove(Params(commit(root), EFFECTIVE, PARAMS), root) == Proof(
        "verified", "params.yaml as recorded gives them; it is the commit's"
    )
    assert prove(Params(commit(root), EFFECTIVE, PARAMS | {"registry": {"model": "m"}}), root) == Proof(
        "verified", "params.yaml as recorded gives them; it is not the commit's"
    )
    other = {"sft": {"sft-lora": PARAMS["sft"]["sft-lora"] | {"learning_rate": 0.002}}}
    assert prove(Params(commit(root), EFFECTIVE, other), root) == Proof(
        "differs", "params.yaml as recorded has other values: sft.sft-lora.learning_rate"
    )


@pytest.mark.parametrize("known", [None, "0" * 40])
def test_recorded_params_yaml_is_checked_without_its_commit(root: Path, known: str | None) -> None:
    assert prove(Params(known, EFFECTIVE, PARAMS), root) == Proof(
        "verified", "params.yaml as recorded gives them; the commit's cannot be read here"
    )
    assert prove(Params(known, EFFECTIVE, {}), root).mark == "differs"


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"sft": {"a": {"rank": 2}}}, []),
        ({"sft": {"a": {}}, "dpo": {"b": {"rank": 3}}}, []),
        ({"sft": {"a": {"rank": 3}}}, ["sft.a.rank"]),
        ({"sft": {"a": {"rank": None}}}, ["sft.a.rank"]),
        ({"sft": {"a": {"rang": 2}}}, ["sft.a.rang"]),
        ({"sft": {"a": {"lora": {"alpha": 5}}}}, ["sft.a.lora.alpha"]),
        ({"sft": {"a": {"lora": None}}}, ["sft.a.lora"]),
        ({"sft": {"a": None}}, ["sft.a"]),
        ({"sft": {"b": {"rank": 2}}}, ["sft.a"]),
        ({"sft": []}, ["sft.a"]),
        (None, ["sft.a"]),
    ],
)
def test_effective_params_may_add_defaults_and_change_nothing(document: Any, names: list[str]) -> None:
    recorded = {"sft": {"a": {"rank": 2, "lora": {"alpha": 4, "dropout": 0.0}}}}
    assert list(verification.differences(recorded, document)) == names


@pytest.mark.parametrize(
    ("recorded", "stated", "equal"),
    [
        (1.0, 1, True),
        (0.001, "1e-3", True),
        (0.001, "a tenth", False),
        (2, "2", True),
        ({"a": [1, 2.0]}, {"a": [1, 2]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2], [1], False),
        (None, None, True),
        (None, {}, False),
    ],
)
def test_params_are_equal_however_yaml_writes_them(recorded: Any, stated: Any, equal: bool) -> None:
    assert verification.same(recorded, stated) is equal


def test_a_lock_is_compared_with_the_commit(root: Path) -> None:
    (root / "requirements.lock").write_text("torch==2\n")
    assert prove(Lock(commit(root), hashlib.sha256(b"torch==1\n").hexdigest()), root).mark == "verified"
    assert prove(Lock(commit(root), "0" * 64), root).mark == "differs"


def test_every_byte_of_a_model_folder_is_checked_and_the_lineage_that_was_shown(root: Path) -> None:
    folder = root / "models" / "sft"
    check = Files(folder, digest(root, "sft"), LINEAGE)
    assert prove(check, root) == Proof("verified", "2 files, every byte, in models/sft")
    assert prove(Files(folder, digest(root, "sft"), {"source": "forged"}), root).mark == "differs"
    (folder / "model.safetensors").write_bytes(b"x")
    assert prove(check, root).mark == "differs"


def test_a_version_is_checked_by_fetching_it(root: Path) -> None:
    folder = root / "models" / "sft"
    files = VersionFiles(VERSION, folder, root, digest(root, "sft"), {}, "signer")
    check = Files(VERSION, digest(root, "sft"), LINEAGE)
    assert prove(check, root, fetch=lambda version: files).mark == "verified"


@pytest.mark.parametrize(
    ("error", "mark"),
    [
        (IntegrityError("a byte was changed", fix="-"), "differs"),
        (RegistryError("the tracker is away", fix="-"), "unreachable"),
        (SigningError("no key", fix="-"), "unreachable"),
        (OSError("disk"), "unreachable"),
    ],
)
def test_a_failed_fetch_distinguishes_tampering_from_absence(root: Path, error: Exception, mark: str) -> None:
    def fail(version: Version) -> Any:
        raise error

    assert prove(Files(VERSION, "d", {}), root, fetch=fail) == Proof(mark, getattr(error, "reason", "disk"))
    assert prove(Evidence(VERSION, {}), root, fetch_claims=fail).mark == mark


def test_a_model_without_files_is_unreachable(root: Path) -> None:
    assert prove(Files(None, "d", None), root).mark == "unreachable"


def test_the_signed_claims_must_be_those_that_were_shown(root: Path) -> None:
    def signed(version: Version) -> tuple[dict[str, Any], str]:
        return {"outcome": "fail"}, "signer"

    assert prove(Evidence(VERSION, {"outcome": "fail"}), root, fetch_claims=signed).mark == "verified"
    assert prove(Evidence(VERSION, {"outcome": "pass"}), root, fetch_claims=signed).mark == "differs"


def test_an_image_is_verified_where_the_engine_has_it(root: Path) -> None:
    asked: list[str] = []
    assert prove(Image("sha256:i"), root, find_image=asked.append) == Proof("verified", "the Docker engine here has it")
    assert asked == ["sha256:i"]


@pytest.mark.parametrize(
    ("error", "mark"),
    [
        (ContainerError("no Docker engine answers", fix="start one"), "unreachable"),
        (IntegrityError("latest is not a digest", fix="-"), "differs"),
    ],
)
def test_an_image_that_is_not_found_is_unreachable_and_one_without_a_digest_differs(
    root: Path, error: TunesmithError, mark: str
) -> None:
    def fail(digest: str) -> None:
        raise error

    assert prove(Image("sha256:i"), root, find_image=fail) == Proof(mark, error.reason)


def test_promotions_are_verified_for_the_same_digest_in_a_history_without_faults(root: Path) -> None:
    assert prove(Promotions((entry("d"),), "d", ()), root).mark == "verified"
    assert prove(Promotions((entry("e"),), "d", ()), root).mark == "differs"
    assert prove(Promotions((), "d", ("version 2 was edited",)), root) == Proof("differs", "version 2 was edited")


def test_every_node_with_a_check_gets_a_proof(root: Path) -> None:
    node = Node("top", "", None, (Node("plain", ""), Node("code", "", None, (), Code(commit(root), True))))
    top, plain, code = verification.verified(node, Reach(root, lost, lost, lost)).walk()
    assert (top.proof, plain.proof) == (None, None)
    assert code.proof is not None
