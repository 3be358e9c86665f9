"""Moving an alias, such as champion, to another version: checked, one at a time, remembered.

The history (tunesmith/registry/ledger.py) decides; the tracker's alias is set after it. Killed between the
two, the next command sets the alias.
"""

import re
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith.core.errors import IntegrityError, RegistryError
from tunesmith.registry import ledger, versions
from tunesmith.registry.ledger import CHAMPION, Chain, Entry
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.tracker import user_name
from tunesmith.registry.versions import STATEMENT, Fetched

ALIAS = re.compile(r"(?!latest$|v\d+$)[A-Za-z][A-Za-z0-9_-]{0,63}", re.IGNORECASE)
"""MLflow takes nearly these."""
Probe = Callable[[Fetched], None]
"""Serves a model for a moment and holds its answers to those that were evaluated; raises a TunesmithError."""


def promote(
    registry: Registry,
    name: str,
    which: str,
    *,
    signing: Signing,
    probe: Probe,
    alias: str = CHAMPION,
    reason: str | None = None,
) -> Entry:
    """Point an alias at the version ``which`` names (see `versions`), and return the entry of the history.

    Raises RegistryError where there is no such version, it did not pass the gate and no reason is given to promote it
    all the same, the champion is another than when it was compared, or somebody else is faster; IntegrityError where
    its bytes, or the history, are not those that were signed; what ``probe`` raises.
    """
    if not ALIAS.fullmatch(alias):
        raise RegistryError(f"{alias!r} cannot be an alias", fix="take letters, digits, - and _, not latest or v1")
    chain = ledger.read(registry, name, signing).sound(name)
    version = versions.choose(registry, name, which, signing)
    head = chain.head(alias)
    if head is not None and (head.version, head.statement) == (version.number, version.tags[STATEMENT]):
        return _complete(registry, name, alias, head, signing)
    with TemporaryDirectory() as scratch:
        fetched = versions.fetch(registry, name, version, Path(scratch), signing)
        said = fetched.statement
        if said["outcome"] != "pass" and not reason:
            raise RegistryError(
                f"{name} version {version.number} did not pass the gate: {said['evidence']}",
                fix="do what the gate asks for, or say why it should be promoted all the same with --reason",
            )
        if said["champion"] not in (None, *chain.signers):
            raise IntegrityError(
                f"the history of {name} lacks the promotion beside which version {version.number} was registered",
                fix="find out who took it out, and restore the tracker's database",
            )
        if alias == CHAMPION and said["champion"] != (head.hash if head else None):
            raise RegistryError(
                f"{name} version {version.number} was compared before {_told(head)}",
                fix="see whether the comparison still holds, then make it again: "
                f"`dvc repro --force --single-item compare register@{said['model']}`",
            )
        probe(fetched)
    draft = _draft(chain, alias, "promotion", version, fetched, reason or "passed the gate")
    return _move(registry, name, draft, version, chain, signing)


def rollback(
    registry: Registry, name: str, *, signing: Signing, probe: Probe, alias: str = CHAMPION, reason: str | None = None
) -> Entry:
    """Point an alias back at what it pointed at before; the errors are `promote`'s.

    What stood before passed then, or was let through for a reason, so the gate is not asked again. One that was cut
    short is only completed, and says so: another would go back one further.
    """
    chain = ledger.read(registry, name, signing).sound(name)
    head, before = chain.head(alias), chain.before(alias)
    moved = head is not None and head.kind == "rollback" and head.version != head.previous
    if head is not None and moved and registry.alias(name, alias) == head.previous:
        return _complete(registry, name, alias, head, signing)
    if head is None or before is None:
        raise RegistryError(f"{name} has had no {alias} before this one", fix="promote another: `tunesmith promote`")
    version = versions.choose(registry, name, before.version, signing)
    with TemporaryDirectory() as scratch:
        fetched = versions.fetch(registry, name, version, Path(scratch), signing)
        if fetched.digest != before.digest:
            raise versions.changed(name, version, f"it was promoted with digest {before.digest[:12]}")
        probe(fetched)
    why = reason or f"rolled back from version {head.version}"
    return _move(registry, name, _draft(chain, alias, "rollback", version, fetched, why), version, chain, signing)


def settle(registry: Registry, name: str, alias: str, signing: Signing) -> None:
    """Make the tracker's alias follow the history, however many do so at once."""
    while (head := ledger.read(registry, name, signing).head(alias)) is not None:
        if registry.alias(name, alias) == head.version:
            return
        registry.move_alias(name, alias, head.version)


def _complete(registry: Registry, name: str, alias: str, head: Entry, signing: Signing) -> Entry:
    """Finish a promotion that was cut short, or was meddled with, after it was recorded."""
    if registry.alias(name, alias) == head.version:
        raise RegistryError(f"{name} version {head.version} is the {alias} already", fix="nothing to do")
    settle(registry, name, alias, signing)
    further = "; to go back further, run it again" if head.kind == "rollback" else ""
    print(
        f"note: this only completed the {head.kind} to version {head.version} of {head.when}: the tracker's alias had "
        f"not followed it, or was moved by other means{further}",
        file=sys.stderr,
    )
    return head


def _draft(chain: Chain, alias: str, kind: str, version: Version, fetched: Fetched, why: str) -> Entry:
    head = chain.head(alias)
    return Entry(
        parent=chain.last,
        of=fetched.statement["of"],
        alias=alias,
        kind="rollback" if kind == "rollback" else "promotion",
        model=fetched.statement["model"],
        version=version.number,
        previous=head.version if head else None,
        who=user_name(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        why=why,
        evidence=fetched.statement["evidence"],
        digest=fetched.digest,
        statement=version.tags[STATEMENT],
        nonce=uuid.uuid4().hex,
    )


def _move(registry: Registry, name: str, draft: Entry, version: Version, chain: Chain, signing: Signing) -> Entry:
    """Record the entry, unless the alias was moved since ``chain`` was read; other aliases' entries do no harm."""
    head = chain.head(draft.alias)
    while True:
        after = ledger.append(registry, draft, version, signing)
        if draft in after.entries:
            _set_alias(registry, name, draft, signing)
            return draft
        if after.head(draft.alias) != head:
            raise RegistryError(
                f"{name} version {version.number} was not promoted: {_told(after.head(draft.alias))} meanwhile",
                fix="see `tunesmith history`; if it should still be promoted, compare it with the new one first",
            )
        draft = replace(draft, parent=after.last)


def _set_alias(registry: Registry, name: str, made: Entry, signing: Signing) -> None:
    """Raises RegistryError that says what is done already: a rollback that is run again goes back one further."""
    try:
        settle(registry, name, made.alias, signing)
    except RegistryError as error:
        raise RegistryError(
            f"{name} version {made.version} is the {made.alias} now, but the tracker's alias may lag: {error.reason}",
            fix=f"`tunesmith promote {made.version} --to {made.alias}` sets it when the tracker answers",
        ) from None


def _told(head: Entry | None) -> str:
    """Who moved an alias, as a part of a sentence."""
    if head is None:
        return "there was no champion"
    return f"{head.who} made version {head.version} ({head.model}) the {head.alias} at {head.when}"
