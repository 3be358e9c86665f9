"""What is verified in memory is what model_signing verifies: no bundle passes here that would not pass there."""

import base64
import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from registered_versions import SIGNING

from tunesmith.core.errors import IntegrityError
from tunesmith.registry import key_files, signing, text_signatures
from tunesmith.registry.signing import Key

TEXT = '{"an": "entry — ü"}\n'


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def signed() -> tuple[str, bytes]:
    """A signature over TEXT, and the key."""
    signature = signing.sign_text(TEXT, SIGNING)
    [key] = signing.public_keys(SIGNING).values()
    return signature, key


def with_payload(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """A change of what is signed, without a new signature."""

    def changed(bundle: dict[str, Any]) -> None:
        envelope = bundle["dsseEnvelope"]
        payload = json.loads(base64.b64decode(envelope["payload"]))
        change(payload)
        envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()

    return changed


def of_another_text(payload: dict[str, Any]) -> None:
    digest = hashlib.sha256(b"another")
    payload["predicate"]["resources"][0]["digest"] = digest.hexdigest()
    payload["subject"][0]["digest"]["sha256"] = hashlib.sha256(digest.digest()).hexdigest()


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another text": with_payload(of_another_text),
    "the payload reformatted": with_payload(lambda payload: None),
    "another type": lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
    "no signature": lambda bundle: bundle["dsseEnvelope"].update(signatures=[]),
    "an empty signature": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=""),
    "a signature of zeros": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(
        sig=base64.b64encode(bytes(70)).decode()
    ),
    "no envelope": lambda bundle: bundle.pop("dsseEnvelope"),
    "a payload that is no object": lambda bundle: bundle["dsseEnvelope"].update(payload="W10="),
    "a payload that is no base64": lambda bundle: bundle["dsseEnvelope"].update(payload="§"),
}


def test_a_signature_is_valid_over_its_text_by_its_key_alone(tmp_path: Path) -> None:
    signature, key = signed()
    other = tmp_path / "other.pem"
    key_files.make(other)
    assert text_signatures.is_valid(TEXT, signature, key)
    assert not text_signatures.is_valid(TEXT + " ", signature, key)
    assert not text_signatures.is_valid(TEXT, signature, key_files.public_half(other))
    assert not text_signatures.is_valid(TEXT, signing.sign_text(TEXT, Key(private=other)), key)


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_what_is_forged_passes_neither_here_nor_there(forge: Callable[[dict[str, Any]], None]) -> None:
    signature, key = signed()
    bundle = deepcopy(json.loads(signature))
    forge(bundle)
    assert not text_signatures.is_valid(TEXT, json.dumps(bundle), key)
    with pytest.raises(IntegrityError):
        signing.verify_text(TEXT, json.dumps(bundle), SIGNING)


@pytest.mark.parametrize("bundle", ["", "[]", "null", "3", "[" * 100_000])
def test_no_bundle_is_no_signature(bundle: str) -> None:
    assert not text_signatures.is_valid(TEXT, bundle, signed()[1])


def test_a_key_of_another_kind_is_left_to_the_library() -> None:
    assert not text_signatures.is_valid(TEXT, signed()[0], b"no key")


def test_another_form_of_bundle_is_decided_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    signature, _ = signed()
    monkeypatch.setattr(text_signatures, "is_valid", lambda *_: False)
    signing.verify_text_by_key.cache_clear()
    assert signing.verify_text(TEXT, signature, SIGNING)


def test_a_history_is_verified_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundles that `sign_text` makes have the form that is checked here, in every release of model_signing."""
    signature, _ = signed()
    monkeypatch.setattr(signing, "_verify_by_key", lambda *_: pytest.fail("left to the library"))
    signing.verify_text_by_key.cache_clear()
    assert signing.verify_text(TEXT, signature, SIGNING)
