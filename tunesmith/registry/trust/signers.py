"""Whose signatures count, read once to verify the many texts of a history."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith.registry import signing as signatures
from tunesmith.registry.signing import Key, Signing, Withdrawn


@dataclass(frozen=True)
class Signers:
    """The keys of a section `signing`, by fingerprint; none where certificates or identities sign."""

    signing: Signing
    keys: dict[str, bytes]
    withdrawn: dict[str, Withdrawn]

    @classmethod
    def of(cls, signing: Signing) -> "Signers":
        """Read the keys. Raises SigningError if one cannot be read."""
        keys = signatures.public_keys(signing) if isinstance(signing, Key) else {}
        return cls(signing, keys, signatures.withdrawn_keys(signing))

    def verify_text(self, text: str, signature: str) -> str:
        """Verify as `signing.verify_text` does, by withdrawn keys too; return the signer."""
        if not isinstance(self.signing, Key):
            return signatures.verify_text(text, signature, self.signing, withdrawn=True)
        signer, key = signatures.named_key(Path("text"), signature, self.keys, self.withdrawn, withdrawn=True)
        signatures.verify_text_by_key(text, signature, key)
        return signer
