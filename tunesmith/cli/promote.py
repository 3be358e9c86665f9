"""`tunesmith promote`, `rollback` and `history`, on this project's registry."""

import click

from tunesmith.core import params
from tunesmith.core.formatting import printable
from tunesmith.models.engines.settings import Engine
from tunesmith.registry import ledger, promotion
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Settings, Signing
from tunesmith.registry.tracker import Names
from tunesmith.registry.trust import known_history
from tunesmith.registry.trust.chain import ID_LENGTH, Entry
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


def history(*, accept: str | None = None, restart: str | None = None) -> None:
    """Print the promotions, oldest first. Raises IntegrityError where the history was edited, or lacks known entries.

    accept, restart: the reason to go on with it as it is, or to set it aside.
    """
    registry, name, signing = _project()
    if restart is not None:
        aside, files = ledger.restart(registry, name, restart, signing)
        click.echo(
            f"the history of {name} is kept as {aside}, if there was one ({', '.join(map(str, files))} remembers why); "
            "register every model that may be promoted again: `dvc repro --force --single-item register`"
        )
        return
    if accept is not None:
        files = ledger.accept(registry, name, accept, signing)
        click.echo(f"accepted, and remembered in {', '.join(map(str, files))}")
    chain = ledger.read(registry, name, signing)
    for entry in chain.moves:
        _show(entry)
        _echo(f"    entry: {entry.hash[:ID_LENGTH]}, signed by: {chain.signers[entry.hash]}")
    if chain.entries and chain.entries[-1].kind == "registration":
        last = chain.entries[-1]
        click.echo(f"{last.when}  last registration: version {last.version}, entry {last.hash[:ID_LENGTH]}")
    if not chain.moves and not chain.faults:
        click.echo("nothing has been promoted yet; `tunesmith promote MODEL` does")
    for decision in known_history.decisions(registry.uri, name, signing):
        _echo(
            f"⚠ {decision['when']}  {decision['who']} went on without "
            f"{f'the entry {lost[:ID_LENGTH]}' if (lost := decision['lost']) else 'the history before'}: "
            f"{decision['why']}"
        )
    chain.verified(name)
    for alias in dict.fromkeys(entry.alias for entry in chain.moves):
        head, now = chain.head(alias), registry.alias(name, alias)
        if head is not None and now != head.version:
            _echo(
                f"⚠ the alias {alias} was moved by other means to {f'version {now}' if now else 'no version'}; version "
                f"{head.version} counts and is served; `tunesmith promote {head.version}` corrects the alias"
            )


def _probe(fetched: VersionFiles) -> None:
    from tunesmith.serving import deployment  # importing it takes most of a second, which `history` saves

    click.echo("its bytes are as signed; serving it for a moment, to compare its answers with its evaluation", err=True)
    deployment.probe(fetched, params.load(Serve, "serve"), params.load(Engine, "engine"))


def _show_next(entry: Entry) -> None:
    _show(entry)
    click.echo("`tunesmith history` shows every promotion; `tunesmith serve` serves the champion.")


def _project() -> tuple[Registry, str, Signing]:
    names = params.load(Names, "registry")
    return Registry(), names.model, params.load(Settings, "signing").root


def _show(entry: Entry) -> None:
    before = f"version {entry.previous}" if entry.previous else "none"
    _echo(f"{entry.when}  {entry.who}  {entry.alias}: {before} -> version {entry.version} ({entry.model})")
    for name in ("why", "evidence", "digest"):
        _echo(f"    {name}: {getattr(entry, name)}")


def _echo(line: str) -> None:
    """Print a line with texts of others."""
    click.echo(printable(line))
