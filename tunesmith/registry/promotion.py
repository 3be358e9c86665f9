"""Promotions and rollbacks: move an alias, such as champion, to another version, checked and recorded.

The history (tunesmith/registry/ledger.py) decides; the tracker's alias is set afterwards. If the process is killed in
between, the next command sets the alias.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from tunesmith.core.errors import IntegrityError, RegistryError
from tunesmith.registry import ledger, versions
from tunesmith.registry.ledger import CHAMPION
from tunesmith.registry.registered_models import Registry, Version
from tunesmith.registry.signing import Signing
from tunesmith.registry.tracker import download_folder
from tunesmith.registry.trust import known_history
from tunesmith.registry.trust.chain import ID_LENGTH, Chain, Entry, Move
from tunesmith.registry.versions import STATEMENT_TAG, VersionFiles

ALIAS = re.compile(r"(?!latest$|v\d+$)[A-Za-z][A-Za-z0-9_-]{0,63}", re.IGNORECASE)
"""Valid names of aliases: nearly those that MLflow takes."""
Prober = Callable[[VersionFiles], None]
"""Serves a version briefly and compares its answers with the evaluated ones; raises a TunesmithError if they differ."""


def promote(
    registry: Registry,
    name: str,
    which: str,
    *,
    signing: Signing,
    probe: Prober,
    alias: str = CHAMPION,
    reason: str | None = None,
) -> Entry:
    """Point an alias at the version that ``which`` names (see `versions.choose`), and return the history's new entry.

    Raises RegistryError where the version does not exist, it did not pass the gate and no reason is given, the champion
    changed since it was compared, or another promotion wins; IntegrityError where its files or the history are not as
    signed; and the errors of ``probe``.
    """
    if not ALIAS.fullmatch(alias):
        raise RegistryError(f"{alias!r} cannot be an alias", fix="take letters, digits, - and _, not latest or v1")
    chain = ledger.read(registry, name, signing).verified(name)
    version = versions.choose(registry, name, which, signing, chain)
    head = chain.head(alias)
    if head is not None and (head.version, head.statement) == (version.number, version.tags[STATEMENT_TAG]):
        return _complete(registry, name, alias, head, signing)
    with download_folder() as scratch:
        files = versions.fetch(registry, name, version, Path(scratch), signing, chain)
        _check_claims(name, files, chain, alias, reason)
        probe(files)
    draft = _draft(chain, alias, "promotion", version, files, reason or "passed the gate")
    return _move(registry, name, draft, version, chain, signing)


def _check_claims(name: str, files: VersionFiles, chain: Chain, alias: str, reason: str | None) -> None:
    """Raise where the signed evaluation does not let a version be promoted: see `promote`."""
    claims, number, head = files.claims, files.version.number, chain.head(alias)
    if claims["outcome"] != "pass" and not reason:
        raise RegistryError(
            f"{name} version {number} did not pass the gate: {claims['evidence']}",
            fix="do what the gate asks for, or give a reason to promote it anyway with --reason",
        )
    if claims["champion"] not in (None, *chain.signers):
        raise IntegrityError(
            f"the history of {name} lacks the promotion that version {number} was registered after",
            fix="find out who deleted it, and restore the tracker's database; after a decision to go on with "
            "another history, register the model again: `dvc repro --force --single-item compare register`",
        )
    if chain.registration(number) is None:
        raise RegistryError(
            f"the history of {name} does not hold the registration of version {number}: an earlier release "
            "registered it, it was killed meanwhile, or somebody added the version by hand",
            fix="register the model again: `dvc repro --force --single-item register`",
        )
    if alias == CHAMPION and claims["champion"] != (head.hash if head else None):
        raise RegistryError(
            f"{name} version {number} was compared before {_describe_move(head)}",
            fix="compare it with that one: `dvc repro --force --single-item compare register`",
        )


def rollback(
    registry: Registry, name: str, *, signing: Signing, probe: Prober, alias: str = CHAMPION, reason: str | None = None
) -> Entry:
    """Point an alias back at its version before; raises as `promote` does.

    That version passed the gate when it was promoted, or had a reason, so the gate is not asked again. An interrupted
    rollback is only completed, with a note: a second one would go back one version further.
    """
    chain = ledger.read(registry, name, signing).verified(name)
    head, target = chain.head(alias), chain.rollback_target(alias)
    moved = head is not None and head.kind == "rollback" and head.version != head.previous
    if head is not None and moved and registry.alias(name, alias) == head.previous:
        return _complete(registry, name, alias, head, signing)
    if head is None or target is None:
        raise RegistryError(
            f"{name} has had no {alias} before this one", fix="promote another version: `tunesmith promote`"
        )
    version = versions.choose(registry, name, target.version, signing, chain)
    with download_folder() as scratch:
        files = versions.fetch(registry, name, version, Path(scratch), signing, chain)
        if files.digest != target.digest:
            raise versions.changed(name, version, f"it was promoted with digest {target.digest[:12]}")
        probe(files)
    why = reason or f"rolled back from version {head.version}"
    return _move(registry, name, _draft(chain, alias, "rollback", version, files, why), version, chain, signing)


def sync_alias(registry: Registry, name: str, alias: str, signing: Signing) -> None:
    """Set the tracker's alias to the version in the history, also while other processes do the same."""
    while (head := ledger.read(registry, name, signing).head(alias)) is not None:
        if registry.alias(name, alias) == head.version:
            return
        registry.move_alias(name, alias, head.version)


def _complete(registry: Registry, name: str, alias: str, head: Entry, signing: Signing) -> Entry:
    """Set the alias of a recorded promotion that was interrupted, or whose alias was moved by other means."""
    if registry.alias(name, alias) == head.version:
        raise RegistryError(f"{name} version {head.version} is the {alias} already", fix="no action is needed")
    sync_alias(registry, name, alias, signing)
    further = "; to go back further, run it again" if head.kind == "rollback" else ""
    print(
        f"note: this only completed the {head.kind} to version {head.version} of {head.when}: the tracker's alias had "
        f"not followed it, or was moved by other means{further}",
        file=sys.stderr,
    )
    return head


def _draft(chain: Chain, alias: str, kind: Move, version: Version, files: VersionFiles, why: str) -> Entry:
    head = chain.head(alias)
    return chain.successor(
        of=files.claims["of"],
        alias=alias,
        kind=kind,
        model=files.claims["model"],
        version=version.number,
        previous=head.version if head else None,
        why=why,
        evidence=files.claims["evidence"],
        digest=files.digest,
        statement=version.tags[STATEMENT_TAG],
    )


def _move(registry: Registry, name: str, draft: Entry, version: Version, chain: Chain, signing: Signing) -> Entry:
    """Append the entry, unless the alias was moved since ``chain`` was read; other entries do not matter."""
    head = chain.head(draft.alias)
    while True:
        after = _append(registry, draft, version, signing)
        if draft in after.entries:
            _set_alias(registry, name, draft, signing)
            if shared := known_history.share(name, after.span, signing):
                print(f"note: commit {shared}, in which this promotion is remembered", file=sys.stderr)
            return draft
        if (winner := after.head(draft.alias)) != head:
            raise RegistryError(
                f"{name} version {version.number} was not promoted: {_describe_move(winner)} meanwhile",
                fix="see `tunesmith history`; if it should still be promoted, compare it with the new one first",
            )
        if after.is_superseded(draft):
            raise RegistryError(
                f"{name} version {version.number} was not promoted: it was evaluated again meanwhile",
                fix="see `tunesmith results`; run the command again to promote it on the new evaluation",
            )
        draft = after.following(draft)


def _append(registry: Registry, draft: Entry, version: Version, signing: Signing) -> Chain:
    """Append the entry; where the tracker fails meanwhile, the error says how to see whether the entry counts."""
    try:
        return ledger.append(registry, draft, version, signing)
    except RegistryError as error:
        raise type(error)(
            f"the {draft.kind} of {draft.of} version {version.number} to {draft.alias} may or may not be recorded: "
            f"{error.reason}",
            fix=f"once the tracker answers, `tunesmith history` shows the entry {draft.hash[:ID_LENGTH]}, by "
            f"{draft.who} at {draft.when}, if it counts; then `tunesmith promote {version.number} --to {draft.alias}` "
            "sets the alias; if it is not there, run the command again",
        ) from None


def _set_alias(registry: Registry, name: str, entry: Entry, signing: Signing) -> None:
    """Set the alias of a recorded entry; the error says that it is recorded, since a second rollback goes further."""
    try:
        sync_alias(registry, name, entry.alias, signing)
    except RegistryError as error:
        raise RegistryError(
            f"{name} version {entry.version} is the {entry.alias} now, but the tracker's alias may lag: {error.reason}",
            fix=f"`tunesmith promote {entry.version} --to {entry.alias}` sets it once the tracker answers",
        ) from None


def _describe_move(head: Entry | None) -> str:
    """Describe the last move of an alias as a clause of a sentence."""
    if head is None:
        return "there was no champion"
    return f"{head.who} made version {head.version} ({head.model}) the {head.alias} at {head.when}"
