"""`tunesmith promote`, `rollback` and `history`, on this project's registry."""

import click

from tunesmith.core import params
from tunesmith.registry import ledger, promotion
from tunesmith.registry.ledger import Entry
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Settings, Signing
from tunesmith.registry.tracker import Names
from tunesmith.registry.versions import VersionFiles
from tunesmith.serving.settings import Serve


def promote(which: str, *, alias: str, reason: str | None) -> None:
    """Promote a version and print the entry of the ledger."""
    registry, name, signing = _project()
    _show_next(promotion.promote(registry, name, which, signing=signing, probe=_probe, alias=alias, reason=reason))


def rollback(*, alias: str, reason: str | None) -> None:
    """Promote the version before the current one and print the entry of the ledger."""
    registry, name, signing = _project()
    _show_next(promotion.rollback(registry, name, signing=signing, probe=_probe, alias=alias, reason=reason))


def history() -> None:
    """Print the ledger, oldest entry first. Raises IntegrityError where it was edited."""
    registry, name, signing = _project()
    chain = ledger.read(registry, name, signing)
    for entry in chain.entries:
        _show(entry)
        click.echo(f"    signed by: {chain.signers[entry.hash]}")
    if not chain.entries and not chain.faults:
        click.echo("nothing has been promoted yet; `tunesmith promote MODEL` does")
    chain.verified(name)
    for alias in dict.fromkeys(entry.alias for entry in chain.entries):
        head, now = chain.head(alias), registry.alias(name, alias)
        if head is not None and now != head.version:
            click.echo(
                f"⚠ the alias {alias} was moved by other means to {f'version {now}' if now else 'no version'}; version "
                f"{head.version} counts and is served; `tunesmith promote {head.version}` corrects the alias"
            )


def _probe(fetched: VersionFiles) -> None:
    from tunesmith.serving import deployment  # importing it takes most of a second, which `history` saves

    click.echo("its bytes are as signed; serving it for a moment, to compare its answers with its evaluation", err=True)
    deployment.probe(fetched, params.load(Serve, "serve"))


def _show_next(entry: Entry) -> None:
    _show(entry)
    click.echo("`tunesmith history` shows every promotion; `tunesmith serve` serves the champion.")


def _project() -> tuple[Registry, str, Signing]:
    names = params.load(Names, "registry")
    return Registry(), names.model, params.load(Settings, "signing").root


def _show(entry: Entry) -> None:
    before = f"version {entry.previous}" if entry.previous else "none"
    click.echo(
        f"{entry.when}  {_printable(entry.who)}  {entry.alias}: {before} -> version {entry.version} ({entry.model})"
    )
    click.echo(
        f"    why: {_printable(entry.why)}\n    evidence: {_printable(entry.evidence)}\n    digest: {entry.digest}"
    )


def _printable(text: str) -> str:
    """A text of others, without characters that could control the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
