"""The history of promotions: an append-only chain of signed entries, which decides the champion.

An entry is a version of the registered model ``<model>-promotions``: a registration, a promotion or a rollback. On any
database, a tracker hands out version numbers one by one, so all readers see the entries in the same order. Each entry
is numbered and names its parent: the last entry at the time of writing. An entry whose parent is no longer the last is
late, does not count, and is marked by its writer with the entry that won. This is a compare-and-swap: of several
promotions at once, the first wins. The ledger is created before the first version of its model, by an account that may
register that model, and carries its owner's signature (tunesmith/registry/trust/ownership.py).

Every reader remembers the last entry outside the tracker, and refuses a history that lacks it
(tunesmith/registry/trust/known_history.py).

An MLflow alias can be moved by anyone and keeps no history; here it follows the chain (docs/decisions/021).
"""

import hashlib
import random
import time
from datetime import UTC, datetime
from pathlib import Path

from tunesmith.core.errors import IntegrityError, RegistryError, UntrustedError
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.tracker import collector_paused
from tunesmith.registry.trust import known_history, ownership
from tunesmith.registry.trust.chain import (
    ENTRY_TAG,
    ID_LENGTH,
    LOST_TAG,
    SIGNATURE_TAG,
    Chain,
    Entry,
    fold,
    lost_text,
    name_of,
)
from tunesmith.registry.trust.known_history import Span

CHAMPION = "champion"
"""The alias of the version to deploy."""
APPEND_ATTEMPTS = 20
"""Attempts to append an entry while others append theirs."""
READ_ATTEMPTS = 5
"""Reads of a chain that looks edited, before it is reported as edited."""


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


def read(registry: Registry, model: str, signing: Signing, *, as_known: bool = True) -> Chain:
    """Read the chain and check every hash and signature, and the ledger's mark; empty where there is no ledger.

    as_known: whether a chain without the last entry that this project, or its team, has seen is faulty; a valid one is
    then remembered.
    """
    known = list(known_history.load(registry.uri, model, signing).items()) if as_known else []  # first, to be no newer
    elsewhere = known_history.elsewhere(registry.uri, model) if as_known else []
    chain = _read_entries(registry, model, signing)
    try:
        ownership.check(registry, name_of(model), signing)
    except IntegrityError as error:
        if not (chain.faults and chain.error is type(error) is UntrustedError):  # the chain's own fault says more
            chain.faults.insert(0, error.reason)
            chain.error, chain.fix = type(error), error.fix
    if not as_known:
        return chain
    known += [(known_history.memory(), last) for last in elsewhere if last["first"] in chain.signers]
    for path, last in known:
        if chain.span.first in last["aside"]:
            chain.add_fault(
                f"it begins with an entry of a history that was set aside, as {path} remembers",
                fix="find out who brought it back; `tunesmith history --restart REASON` sets it aside again",
            )
        if last["entry"] not in (None, *chain.signers):
            chain.add_fault(
                f"it lacks the entry {str(last['entry'])[:ID_LENGTH]}, number {last['number']}, which {path} remembers",
                fix="restore the tracker's database as it was after that entry, or find out who deleted it; to go on "
                "with the history as it is now, `tunesmith history --accept REASON`",
            )
    if chain.entries and not chain.faults:
        known_history.remember(registry.uri, model, chain.span)
    return chain


def accept(registry: Registry, model: str, reason: str, signing: Signing) -> list[Path]:
    """Go on with the history as the tracker has it, although it lacks entries that were seen before.

    Returns the files that remember it now. Raises IntegrityError where the history itself is not valid.
    """
    known = [*known_history.load(registry.uri, model, signing).values()]
    elsewhere = known_history.elsewhere(registry.uri, model)
    chain = read(registry, model, signing, as_known=False).verified(model)
    known += [last for last in elsewhere if last["first"] in chain.signers]
    lost = [last["entry"] for last in known if last["entry"] not in (None, *chain.signers)]
    if not lost:
        raise RegistryError(f"the history of {model} holds every entry that was seen before", fix="no action is needed")
    return known_history.accept(registry.uri, model, chain.span, lost, reason, signing)


def restart(registry: Registry, model: str, reason: str, signing: Signing) -> tuple[str, list[Path]]:
    """Set the ledger aside under another name, so that registering begins a new one.

    Returns that name, and the files that remember it. For a history that nobody can verify any more.
    """
    aside, first = f"{name_of(model)}-until-{datetime.now(UTC):%Y%m%d-%H%M%S}", list[str]()
    if registry.tags(name_of(model)) is not None:
        texts = [version.tags[ENTRY_TAG] for version in registry.versions(name_of(model)) if ENTRY_TAG in version.tags]
        first = [hashlib.sha256(text.encode()).hexdigest() for text in texts[-1:]]  # newest first
        registry.rename(name_of(model), aside)
    return aside, known_history.accept(registry.uri, model, Span(None, None, 0), [""], reason, signing, first)


def _read_entries(registry: Registry, model: str, signing: Signing) -> Chain:
    for attempt in range(READ_ATTEMPTS):
        with collector_paused():
            chain = fold(model, list(reversed(registry.versions(name_of(model)))), signing)
        if not chain.faults:
            break
        time.sleep(0.05 * attempt)  # a late entry looks damaged until its writer has marked it
    return chain


def append(registry: Registry, entry: Entry, source: Version, signing: Signing) -> Chain:
    """Append an entry after ``entry.parent``, and return the chain, without the entry if another one was first.

    source: the version that it is about, which the UI links to. Raises IntegrityError if the chain was edited or the
    ledger was deleted.
    """
    ledger, text = name_of(entry.of), entry.text()
    if not ownership.check(registry, ledger, signing):
        raise IntegrityError(
            f"{ledger}, the history of the promotions of {entry.of}, was deleted",
            fix="restore the tracker's database; or start a new history by registering the model again: "
            "`dvc repro --force --single-item register`",
        )
    tags = {ENTRY_TAG: text, SIGNATURE_TAG: signatures.sign_text(text, signing)}
    for attempt in range(APPEND_ATTEMPTS):
        number, failure = None, None
        try:
            number = registry.add_version(ledger, source, tags, _describe(entry))
        except RegistryError as error:  # an overloaded tracker refuses some, or writes and does not answer
            failure = error
        chain = read(registry, entry.of, signing).verified(entry.of)
        if entry in chain.entries:
            return chain
        if chain.last != entry.parent:
            if number is not None:
                winner = next(e.hash for e in chain.entries if e.parent == entry.parent)
                mark = f"{winner} {signatures.sign_text(lost_text(entry, winner), signing)}"
                registry.tag_version(ledger, number, LOST_TAG, mark)
            return chain
        if failure is not None and attempt == APPEND_ATTEMPTS - 1:
            raise failure
        time.sleep(random.uniform(0, 0.1))  # jitter
    raise AssertionError("every attempt ends above")


def _describe(entry: Entry) -> str:
    """Describe an entry for the tracker's UI."""
    what = f"version {entry.version} ({entry.model})"
    if entry.kind == "registration":
        return f"{what} registered by {entry.who}, {entry.when}: {entry.why}"
    return f"**{entry.alias}** → {what}, by {entry.who}, {entry.when}: {entry.why}"
