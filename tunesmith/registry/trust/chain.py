"""The chain of entries: what an entry says, which entries count, and how every edit shows. Pure, but for signatures."""

import hashlib
import json
import uuid
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

from tunesmith.core.errors import IntegrityError, UntrustedError
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.tracker import user_name
from tunesmith.registry.trust.known_history import Span
from tunesmith.registry.trust.signers import Signers

ENTRY_TAG, SIGNATURE_TAG = "tunesmith.entry", "tunesmith.signature"
"""Tags of a version of the ledger: the entry, and the signature over it."""
LOST_TAG = "tunesmith.lost"
"""The tag of a late entry: the hash of the entry that won, and the signature over both."""
ID_LENGTH = 16
"""How many characters of an entry's hash are shown as its id."""
Move = Literal["promotion", "rollback"]
Kind = Literal["registration"] | Move


@dataclass(frozen=True)
class Entry:
    """The registration of a version, or the move of an alias from one version of a registered model to another."""

    parent: str | None
    """Hash of the entry before; None for the first."""
    of: str
    """The registered model."""
    alias: str
    """The alias that moves; empty for a registration."""
    kind: Kind
    model: str
    """The name of the promoted model, such as sft-lora."""
    version: str
    """Number of the version that is registered, or that the alias moves to."""
    previous: str | None
    """Number of the version that the alias moves away from."""
    who: str
    """Name of the user who wrote the entry."""
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
    number: int | None = None
    """The place of the entry in the history, from 1; entries of earlier releases have none."""

    def text(self) -> str:
        """Return the text that is hashed and signed."""
        return self._text

    @cached_property
    def _text(self) -> str:
        left_out = ("number",) if self.number is None else ()
        values = {name: getattr(self, name) for name in NAMES if name not in left_out}
        return json.dumps(values, sort_keys=True, ensure_ascii=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex."""
        return hashlib.sha256(self.text().encode()).hexdigest()


NAMES = [each.name for each in fields(Entry)]
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

    @property
    def span(self) -> Span:
        """The ends of the history."""
        return Span(self.entries[0].hash if self.entries else None, self.last, len(self.entries))

    @property
    def moves(self) -> list[Entry]:
        """The promotions and rollbacks."""
        return [entry for entry in self.entries if entry.kind != "registration"]

    def registration(self, version: str) -> Entry | None:
        """Return the last registration of a version."""
        own = (e for e in reversed(self.entries) if e.kind == "registration" and e.version == version)
        return next(own, None)

    def is_superseded(self, entry: Entry) -> bool:
        """Return whether the version was registered again since the statement that an entry names."""
        last = self.registration(entry.version)
        return last is not None and last.statement != entry.statement

    def newest(self, model: str) -> str | None:
        """Return the number of the version that the model with this name was registered as last."""
        own = (e.version for e in reversed(self.entries) if e.kind == "registration" and e.model == model)
        return next(own, None)

    @property
    def numbered(self) -> bool:
        """Whether the entries carry numbers, as those of earlier releases do not."""
        return bool(self.entries) and self.entries[-1].number is not None

    def place(self, entry: str | None) -> int:
        """Return the index of the entry whose id begins so; -1 where there is none."""
        places = (n for n, e in enumerate(self.entries) if entry is not None and e.hash.startswith(entry))
        return next(places, -1)

    def add_fault(self, reason: str, error: type[IntegrityError] = IntegrityError, fix: str = EDITED) -> None:
        """Add a sign of editing; the type and the fix of the first one are reported."""
        if not self.faults:
            self.error, self.fix = error, fix
        self.faults.append(reason)

    def head(self, alias: str) -> Entry | None:
        """Return the entry that decides where an alias points."""
        return next((entry for entry in reversed(self.entries) if entry.alias == alias), None)

    def successor(
        self,
        *,
        of: str,
        alias: str,
        kind: Kind,
        model: str,
        version: str,
        previous: str | None,
        why: str,
        evidence: str,
        digest: str,
        statement: str,
    ) -> Entry:
        """Return an entry by this user that follows the last one; see `Entry`."""
        return Entry(
            parent=self.last,
            of=of,
            alias=alias,
            kind=kind,
            model=model,
            version=version,
            previous=previous,
            who=user_name(),
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            why=why,
            evidence=evidence,
            digest=digest,
            statement=statement,
            nonce=uuid.uuid4().hex,
            number=len(self.entries) + 1,
        )

    def following(self, entry: Entry) -> Entry:
        """Return an entry that was late as one that follows the last."""
        return replace(entry, parent=self.last, number=len(self.entries) + 1)

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


def fold(model: str, versions: list[Version], signing: Signing) -> Chain:
    """Build the chain from the versions of a ledger, oldest first. A late entry is not a fault."""
    chain, strangers = Chain(), dict[str, tuple[str, str]]()
    signers, statements = Signers.of(signing), dict[str, str]()
    for version in versions:
        where = f"version {version.number} of {name_of(model)}"
        try:
            entry, signer = _signed_entry(version, model, signers)
            winner = _winner(version, entry, signer, signers)
        except UntrustedError as error:
            first, _ = strangers.get(error.reason, (where, ""))
            strangers[error.reason] = first, hashlib.sha256(version.tags[ENTRY_TAG].encode()).hexdigest()
        except IntegrityError as error:
            chain.add_fault(f"{where} {error.reason}")
        else:
            if winner is not None:
                if not any(other.hash == winner and other.parent == entry.parent for other in chain.entries):
                    chain.add_fault(f"{where} lost to an entry that was deleted")
            elif entry.parent == chain.last and entry.hash not in chain.signers:
                if entry.number != len(chain.entries) + 1 and (entry.number is not None or chain.numbered):
                    chain.add_fault(f"{where} is number {entry.number}, not {len(chain.entries) + 1}")
                if entry.kind == "registration":
                    statements[entry.version] = entry.statement
                elif statements.get(entry.version, entry.statement) != entry.statement:
                    chain.add_fault(f"{where} is about an evaluation that was not the version's last")
                chain.entries.append(entry)
                chain.signers[entry.hash] = signer
            elif entry.parent is not None and entry.parent not in chain.signers:
                chain.add_fault(f"{where} follows an entry that was deleted or changed")
    _check_withdrawn(chain, signing)
    for reason, (where, last) in reversed(strangers.items()):  # first, since they explain the other faults
        by = f"{reason.partition(': ')[2]}; the last entry by that key is {last[:ID_LENGTH]}"
        chain.faults.insert(0, f"{where} is {by}")
        chain.error, chain.fix = (
            UntrustedError,
            f"{signatures.TRUST}; an entry that was slipped in: delete that version",
        )
    return chain


def _signed_entry(version: Version, model: str, signers: Signers) -> tuple[Entry, str]:
    """Return the entry in a version of a ledger, and its signer. Raises IntegrityError with a part of a sentence."""
    try:
        text = version.tags[ENTRY_TAG]
        entry = Entry(**json.loads(text))
        signer = signers.verify_text(text, version.tags.get(SIGNATURE_TAG, ""))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise IntegrityError("is not an entry of Tunesmith", fix=EDITED) from None
    except UntrustedError:
        raise
    except IntegrityError as error:
        reason = error.reason.partition(": ")[2]
        raise IntegrityError(f"is not the entry that was signed: {reason}", fix=EDITED) from None
    if entry.of != model or entry.text() != text:
        raise IntegrityError("was written for another history", fix=EDITED)
    return entry, signer


def _winner(version: Version, entry: Entry, signer: str, signers: Signers) -> str | None:
    """Return the hash of the entry that a late one lost to, if its writer marked it. Raises as `_signed_entry` does."""
    if LOST_TAG not in version.tags:
        return None
    winner, _, signature = version.tags[LOST_TAG].partition(" ")
    try:
        if signers.verify_text(lost_text(entry, winner), signature) == signer:
            return winner
    except IntegrityError:
        pass
    raise IntegrityError("is marked as late by somebody who did not write it", fix=EDITED)


def lost_text(entry: Entry, winner: str) -> str:
    return f"The entry {entry.hash} was late: {winner} came first."


def _check_withdrawn(chain: Chain, signing: Signing) -> None:
    """Add a fault for each entry that a retired or revoked key signed after the entry up to which it counts."""
    for fingerprint, key in signatures.withdrawn_keys(signing).items():
        signed = [n for n, entry in enumerate(chain.entries) if chain.signers[entry.hash] == fingerprint]
        if signed and signed[-1] > chain.place(key.until):
            last = chain.entries[signed[-1]].hash[:ID_LENGTH]
            chain.add_fault(
                f"{key.file} signed the entry {last}, and counts up to {key.until or 'none'}",
                UntrustedError,
                f"see `tunesmith history`; if that entry is in order, name {last} for {key.file} in params.yaml, under "
                "signing.retired or signing.revoked; if not, `tunesmith history --restart REASON` begins a new history",
            )
