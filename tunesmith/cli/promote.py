"""`tunesmith promote`, `rollback` and `history`: the commands, on this project's registry."""

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
    registry, name, signing = _project()
    _tell(promotion.promote(registry, name, which, signing=signing, probe=_probe, alias=alias, reason=reason))


def rollback(*, alias: str, reason: str | None) -> None:
    registry, name, signing = _project()
    _tell(promotion.rollback(registry, name, signing=signing, probe=_probe, alias=alias, reason=reason))


def history() -> None:
    """Print the chain, oldest first. Raises IntegrityError where it was edited."""
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
                f"⚠ the alias {alias} points to {f'version {now}' if now else 'nothing'}, by other means; what counts, "
                f"and is served, is version {head.version}; `tunesmith promote {head.version}` sets the alias right"
            )


def _probe(fetched: VersionFiles) -> None:
    from tunesmith.serving import deployment  # its statistics take most of a second, which `history` need not wait for

    click.echo("its bytes are as signed; serving it for a moment, to see whether it answers as evaluated", err=True)
    deployment.probe(fetched, params.load(Serve, "serve"))


def _tell(made: Entry) -> None:
    _show(made)
    click.echo("`tunesmith history` shows every promotion; `tunesmith serve` serves the champion.")


def _project() -> tuple[Registry, str, Signing]:
    names = params.load(Names, "registry")
    return Registry(names.experiment), names.model, params.load(Settings, "signing").root


def _show(entry: Entry) -> None:
    before = f"version {entry.previous}" if entry.previous else "none"
    click.echo(f"{entry.when}  {_plain(entry.who)}  {entry.alias}: {before} -> version {entry.version} ({entry.model})")
    click.echo(f"    why: {_plain(entry.why)}\n    evidence: {_plain(entry.evidence)}\n    digest: {entry.digest}")


def _plain(text: str) -> str:
    """What others wrote, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
