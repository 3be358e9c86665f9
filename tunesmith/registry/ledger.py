"""The history of promotions: an append-only chain of signed entries, which says who is champion.

An entry is a version of the registered model ``<model>-promotions``. A tracker gives version numbers out one by one,
whichever database it has, so entries are in one order that everybody reads alike. Each names its parent, the entry that
was the last when it was written; one whose parent is no longer the last came too late, and does not count. That is the
compare-and-swap: of any number that promote at once, the first counts. The ledger is made before the first version of
its model is, by who may register that, and carries
their signature (tunesmith/registry/ownership.py).

An alias of MLflow can be moved by anyone and remembers nothing; here it follows the chain (docs/decisions/021).
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

ENTRY, SIGNATURE = "tunesmith.entry", "tunesmith.signature"
"""Tags of a version of the ledger."""
CHAMPION = "champion"
"""The alias that says what to deploy."""
ATTEMPTS = 20
"""To append while others do."""
LOOKS = 5
"""At a chain that seems edited."""


@dataclass(frozen=True)
class Entry:
    """A move of an alias. of: the registered model. version, previous: its version numbers. model: such as sft-lora.

    digest, statement: of the model's files, and of what was signed about them. parent: hash of the entry before.
    nonce: tells two entries apart that are alike.
    """

    parent: str | None
    of: str
    alias: str
    kind: Literal["promotion", "rollback"]
    model: str
    version: str
    previous: str | None
    who: str
    when: str
    why: str
    evidence: str
    digest: str
    statement: str
    nonce: str

    def text(self) -> str:
        """What is hashed and signed."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @property
    def hash(self) -> str:
        """SHA-256, in hex."""
        return hashlib.sha256(self.text().encode()).hexdigest()


EDITED = "find out who did it; restore the tracker's database, or delete the version that was slipped in"


@dataclass
class Chain:
    """entries: oldest first, as far as they hold together. faults: what was edited, one sentence each.

    signers: of each entry, by its hash. kind, fix: of the first fault, and what to do about it.
    """

    entries: list[Entry] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    signers: dict[str, str] = field(default_factory=dict, compare=False)
    kind: type[IntegrityError] = IntegrityError
    fix: str = EDITED

    @property
    def last(self) -> str | None:
        """Hash of the last entry: the parent of the next."""
        return self.entries[-1].hash if self.entries else None

    def head(self, alias: str) -> Entry | None:
        """The entry that says where an alias points."""
        return next((entry for entry in reversed(self.entries) if entry.alias == alias), None)

    def before(self, alias: str) -> Entry | None:
        """The promotion that a rollback returns to: of another version than the one in force, none rolled back."""
        stack: list[Entry] = []
        for entry in (entry for entry in self.entries if entry.alias == alias):
            if entry.kind == "rollback":
                while stack and stack[-1].version != entry.version:
                    stack.pop()
            elif stack and stack[-1].version == entry.version:
                stack[-1] = entry  # evaluated again, then promoted again: no other version
            else:
                stack.append(entry)
        return stack[-2] if len(stack) > 1 else None

    def sound(self, of: str) -> "Chain":
        """Itself; raises IntegrityError where it was edited, UntrustedError where a stranger made it or signed."""
        if self.faults:
            raise self.kind(f"the history of {of} does not hold: {self.faults[0]}", fix=self.fix)
        return self


def name_of(model: str) -> str:
    """The registered model whose versions are the entries."""
    return f"{model}-promotions"


def begin(registry: Registry, model: str, signing: Signing) -> None:
    """Make the registered model and its ledger, where they are not. Raises RegistryError for who may not register.

    A ledger without a mark, as they once were, gets one where all that it holds is a sound history of trusted signers'.
    """
    if registry.tags(model) is None:
        registry.create(model, {})
    ledger = name_of(model)
    try:
        if ownership.check(registry, ledger, signing):
            return
    except UntrustedError:
        return  # `read` tells who made it
    except IntegrityError:
        chain = _folded(registry, model, signing)
        if chain.entries and not chain.faults:
            ownership.mark(registry, ledger, signing)
        return
    registry.check_may_change(model)  # a model can be somebody else's; who may not change it makes no ledger
    ownership.create(registry, ledger, signing)


def read(registry: Registry, model: str, signing: Signing) -> Chain:
    """The chain, every hash and signature checked; empty where there is no ledger."""
    chain = _folded(registry, model, signing)
    try:
        ownership.check(registry, name_of(model), signing)
    except IntegrityError as error:
        chain.faults.insert(0, error.reason)
        chain.kind, chain.fix = type(error), error.fix
    return chain


def _folded(registry: Registry, model: str, signing: Signing) -> Chain:
    for again in range(LOOKS):
        chain = fold(model, list(reversed(registry.versions(name_of(model)))), signing)
        if not chain.faults:
            break
        time.sleep(0.05 * again)  # an entry that came too late is half gone while it is removed
    return chain


def fold(model: str, versions: list[Version], signing: Signing) -> Chain:
    """The chain that the versions of a ledger, oldest first, make. Ones that came too late are no fault."""
    chain, known = Chain(), set[str | None]([None])
    for version in versions:
        where = f"version {version.number} of {name_of(model)}"
        try:
            text = version.tags[ENTRY]
            entry = Entry(**json.loads(text))
            signer = signatures.verify_text(text, version.tags.get(SIGNATURE, ""), signing)
        except (KeyError, TypeError, ValueError, RecursionError):
            chain.faults.append(f"{where} is not an entry of Tunesmith's")
            continue
        except UntrustedError as error:
            if not chain.faults:
                chain.kind, chain.fix = UntrustedError, error.fix
            chain.faults.append(f"{where} is {error.reason.partition(': ')[2]}")
            continue
        except IntegrityError as error:
            reason = error.reason.partition(": ")[2]
            chain.faults.append(f"{where} is not what was signed: {reason}")
            continue
        if entry.of != model or entry.text() != text:
            chain.faults.append(f"{where} was written for another history")
        elif entry.parent == chain.last and entry.hash not in known:
            chain.entries.append(entry)
            chain.signers[entry.hash] = signer
            known.add(entry.hash)
        elif entry.parent not in known:
            chain.faults.append(f"{where} follows an entry that is gone or was changed")
    return chain


def append(registry: Registry, entry: Entry, source: Version, signing: Signing) -> Chain:
    """Add an entry after ``entry.parent``, and return the chain, which lacks it where another was first.

    source: the version that is promoted, which the UI then links to. Raises IntegrityError where the chain was edited,
    or the ledger is gone.
    """
    ledger, text = name_of(entry.of), entry.text()
    if not ownership.check(registry, ledger, signing):
        raise IntegrityError(
            f"{ledger} is gone, the history of the promotions of {entry.of}",
            fix="restore the tracker's database; or begin a new history by registering the model again: "
            f"`dvc repro --force --single-item register@{entry.model}`",
        )
    tags = {ENTRY: text, SIGNATURE: signatures.sign_text(text, signing)}
    said = f"**{entry.alias}** → version {entry.version} ({entry.model}), by {entry.who}, {entry.when}: {entry.why}"
    for attempt in range(ATTEMPTS):
        number, failure = None, None
        try:
            number = registry.add_version(ledger, source, tags, said)
        except RegistryError as error:  # of many at once the tracker refuses some; or it wrote, and could not answer
            failure = error
        chain = read(registry, entry.of, signing).sound(entry.of)
        if entry in chain.entries:
            return chain
        if chain.last != entry.parent:
            if number is not None:
                registry.remove_version(ledger, number)
            return chain
        if failure is not None and attempt == ATTEMPTS - 1:
            raise failure
        time.sleep(random.uniform(0, 0.1))  # not all again at once
    raise AssertionError("every attempt ends above")
