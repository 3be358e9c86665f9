"""Verify the signatures of many texts by one key, without a file for each.

A history of 6,000 entries takes model_signing 25 seconds, most of them for files that it writes and reads. Here the
same is checked in memory, for the one form of bundle that `tunesmith.registry.signing.sign_text` makes: the key's
signature over the payload (DSSE, with ECDSA), and in the payload the digest of exactly this text. What has any other
form is left to model_signing, which decides about it and says what is wrong.
"""

import base64
import hashlib
import json
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PAYLOAD = "application/vnd.in-toto+json"
STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://model_signing/signature/v1.0"
"""Types of what model_signing 1.1 signs."""
HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""The hash that model_signing takes for the signatures of a curve."""


def is_valid(text: str, bundle: str, key: bytes) -> bool:
    """Whether ``bundle`` is a signature of the known form over ``text`` by ``key``, a public key in PEM.

    False says nothing against the signature: it may have another form.
    """
    try:
        public, content = _loaded(key), json.loads(bundle)
        envelope = content["dsseEnvelope"]
        [signature] = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        if envelope["payloadType"] != PAYLOAD or not _states(json.loads(payload), text.encode()):
            return False
        signed = f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(payload)} ".encode() + payload
        public.verify(base64.b64decode(signature["sig"], validate=True), signed, ec.ECDSA(HASHES[public.curve.name]))
    except (InvalidSignature, UnsupportedAlgorithm, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return False
    return True


@lru_cache(maxsize=64)
def _loaded(key: bytes) -> ec.EllipticCurvePublicKey:
    """The key. Raises TypeError for one of another kind."""
    public = serialization.load_pem_public_key(key)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise TypeError(type(public))
    return public


def _states(statement: dict[str, Any], content: bytes) -> bool:
    """Whether a statement is about a single file with exactly this content, as model_signing writes it."""
    digest = hashlib.sha256(content)
    predicate, [about] = statement["predicate"], statement["subject"]
    serialization = predicate["serialization"]
    return (
        (statement["_type"], statement["predicateType"]) == (STATEMENT, PREDICATE)
        and (serialization["method"], serialization["hash_type"]) == ("files", "sha256")
        and predicate["resources"] == [{"algorithm": "sha256", "name": ".", "digest": digest.hexdigest()}]
        and about["digest"] == {"sha256": hashlib.sha256(digest.digest()).hexdigest()}
    )
