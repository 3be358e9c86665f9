"""The history of promotions: an append-only chain of signed entries, which decides the champion.

An entry is a version of the registered model ``<model>-promotions``. On every database, a tracker hands out version
numbers one by one, so all readers see the entries in the same order. Each entry names its parent: the last entry at
the time of writing. An entry whose parent is no longer the last is late and does not count. This is a compare-and-swap:
of several promotions at once, the first wins. The ledger is created before the first version of its model, by an
account that may register that model, and carries its owner's signature (tunesmith/registry/ownership.py).

An MLflow alias can be moved by anyone and keeps no history; here it follows the chain (docs/decisions/021).
"""

import hashlib
import json
import random
import time
from dataclasses import asdict, dataclass, field
from typing import Literal

from tunesmith.core.errors import IntegrityError, RegistryError, UntrustedError
from tunesmith.registry import ownership
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing

ENTRY_TAG, SIGNATURE_TAG = "tunesmith.entry", "tunesmith.signature"
"""Tags of a version of the ledger: the entry, and the signature over it."""
CHAMPION = "champion"
"""The alias of the version to deploy."""
APPEND_ATTEMPTS = 20
"""Attempts to append an entry while others append theirs."""
READ_ATTEMPTS = 5
"""Reads of a chain that looks edited, before it is reported as edited."""

Move = Literal["promotion", "rollback"]


@dataclass(frozen=True)
class Entry:
    """A move of an alias from one version of a registered model to another."""

    parent: str | None
    """Hash of the entry before; None for the first."""
    of: str
    """The registered model."""
    alias: str
    kind: Move
    model: str
    """The name of the promoted model, such as sft-lora."""
    version: str
    """Number of the version that the alias moves to."""
    previous: str | None
    """Number of the version that the alias moves away from."""
    who: str
    """Name of the user who moved the alias."""
    when: str
    """UTC time, ISO 8601."""
    why: str
    evidence: str
    """The gate's reason, as signed at registration."""
    digest: str
    """Digest of the manifest of the model's files."""
    statement: str
    """Id of the statement signed at registration."""
    nonce: str
    """A random value, so that no two entries have the same hash."""

    def text(self) -> str:
        """Return the text that is hashed and signed."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @property
    def hash(self) -> str:
        """SHA-256, in hex."""
        return hashlib.sha256(self.text().encode()).hexdigest()


EDITED = "find out who edited it; restore the tracker's database, or delete the version that was slipped in"


@dataclass
class Chain:
    """The history of a registered model, as far as it is valid."""

    entries: list[Entry] = field(default_factory=list)
    """The valid entries, oldest first."""
    faults: list[str] = field(default_factory=list)
    """The signs of editing, one sentence each."""
    signers: dict[str, str] = field(default_factory=dict, compare=False)
    """The signer of each entry, by the entry's hash."""
    error: type[IntegrityError] = IntegrityError
    """The error type of the first fault."""
    fix: str = EDITED
    """The fix of the first fault."""

    @property
    def last(self) -> str | None:
        """The hash of the last entry: the parent of the next."""
        return self.entries[-1].hash if self.entries else None

    def head(self, alias: str) -> Entry | None:
        """Return the entry that decides where an alias points."""
        return next((entry for entry in reversed(self.entries) if entry.alias == alias), None)

    def rollback_target(self, alias: str) -> Entry | None:
        """Return the last promotion of another version than the current one that was not rolled back itself."""
        stack: list[Entry] = []
        for entry in (entry for entry in self.entries if entry.alias == alias):
            if entry.kind == "rollback":
                while stack and stack[-1].version != entry.version:
                    stack.pop()
            elif stack and stack[-1].version == entry.version:
                stack[-1] = entry  # the same version, evaluated and promoted again
            else:
                stack.append(entry)
        return stack[-2] if len(stack) > 1 else None

    def verified(self, model: str) -> "Chain":
        """Return the chain if it was never edited, and all signers are trusted.

        Raises IntegrityError, or UntrustedError where the ledger or an entry was signed by an untrusted key.
        """
        if self.faults:
            raise self.error(f"the history of {model} is not valid: {self.faults[0]}", fix=self.fix)
        return self


def name_of(model: str) -> str:
    """Return the name of the registered model whose versions are the entries."""
    return f"{model}-promotions"


def create(registry: Registry, model: str, signing: Signing) -> None:
    """Create the registered model and its ledger if missing. Raises RegistryError where the account may not register.

    A ledger of an earlier release, without a mark of ownership, is marked if all it holds is a valid history by trusted
    signers.
    """
    if registry.tags(model) is None:
        registry.create(model, {})
    ledger = name_of(model)
    try:
        if ownership.check(registry, ledger, signing):
            return
    except UntrustedError:
        return  # `read` reports its signer
    except IntegrityError:
        chain = _read_entries(registry, model, signing)
        if chain.entries and not chain.faults:
            ownership.mark(registry, ledger, signing)
        return
    registry.check_may_change(model)  # the model may be another account's: then no ledger is made for it
    ownership.create(registry, ledger, signing)


def read(registry: Registry, model: str, signing: Signing) -> Chain:
    """Read the chain and check every hash and signature, and the ledger's mark; empty where there is no ledger."""
    chain = _read_entries(registry, model, signing)
    try:
        ownership.check(registry, name_of(model), signing)
    except IntegrityError as error:
        chain.faults.insert(0, error.reason)
        chain.error, chain.fix = type(error), error.fix
    return chain


def _read_entries(registry: Registry, model: str, signing: Signing) -> Chain:
    for attempt in range(READ_ATTEMPTS):
        chain = fold(model, list(reversed(registry.versions(name_of(model)))), signing)
        if not chain.faults:
            break
        time.sleep(0.05 * attempt)  # a late entry looks damaged while the tracker deletes it
    return chain


def fold(model: str, versions: list[Version], signing: Signing) -> Chain:
    """Build the chain from the versions of a ledger, oldest first. A late entry is not a fault."""
    chain, hashes = Chain(), set[str | None]([None])
    for version in versions:
        where = f"version {version.number} of {name_of(model)}"
        try:
            text = version.tags[ENTRY_TAG]
            entry = Entry(**json.loads(text))
            signer = signatures.verify_text(text, version.tags.get(SIGNATURE_TAG, ""), signing)
        except (KeyError, TypeError, ValueError, RecursionError):
            chain.faults.append(f"{where} is not an entry of Tunesmith")
            continue
        except UntrustedError as error:
            if not chain.faults:
                chain.error, chain.fix = UntrustedError, error.fix
            chain.faults.append(f"{where} is {error.reason.partition(': ')[2]}")
            continue
        except IntegrityError as error:
            reason = error.reason.partition(": ")[2]
            chain.faults.append(f"{where} is not the entry that was signed: {reason}")
            continue
        if entry.of != model or entry.text() != text:
            chain.faults.append(f"{where} was written for another history")
        elif entry.parent == chain.last and entry.hash not in hashes:
            chain.entries.append(entry)
            chain.signers[entry.hash] = signer
            hashes.add(entry.hash)
        elif entry.parent not in hashes:
            chain.faults.append(f"{where} follows an entry that was deleted or changed")
    return chain


def append(registry: Registry, entry: Entry, source: Version, signing: Signing) -> Chain:
    """Append an entry after ``entry.parent``, and return the chain, without the entry if another one was first.

    source: the promoted version, which the UI links to. Raises IntegrityError if the chain was edited or the ledger was
    deleted.
    """
    ledger, text = name_of(entry.of), entry.text()
    if not ownership.check(registry, ledger, signing):
        raise IntegrityError(
            f"{ledger}, the history of the promotions of {entry.of}, was deleted",
            fix="restore the tracker's database; or start a new history by registering the model again: "
            "`dvc repro --force --single-item register`",
        )
    tags = {ENTRY_TAG: text, SIGNATURE_TAG: signatures.sign_text(text, signing)}
    move = f"**{entry.alias}** → version {entry.version} ({entry.model}), by {entry.who}, {entry.when}: {entry.why}"
    for attempt in range(APPEND_ATTEMPTS):
        number, failure = None, None
        try:
            number = registry.add_version(ledger, source, tags, move)
        except RegistryError as error:  # an overloaded tracker refuses some, or writes and does not answer
            failure = error
        chain = read(registry, entry.of, signing).verified(entry.of)
        if entry in chain.entries:
            return chain
        if chain.last != entry.parent:
            if number is not None:
                registry.remove_version(ledger, number)
            return chain
        if failure is not None and attempt == APPEND_ATTEMPTS - 1:
            raise failure
        time.sleep(random.uniform(0, 0.1))  # jitter
    raise AssertionError("every attempt ends above")
