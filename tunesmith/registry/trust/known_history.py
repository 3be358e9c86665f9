"""The last entry of each history that this project has seen, kept outside the tracker.

What is left of a history after an old database was restored, or after its end was deleted, is a valid chain. So every
reader remembers the last entry that it accepted, and refuses a history without it. This project's own memory is
``.tunesmith/histories.json``, by tracker; where the project cannot be written to, as in a container, it is in
XDG_STATE_HOME. ``signing.history`` names a second one, a signed file of the repository that a team shares: it also
protects a machine that sees the tracker for the first time.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypedDict, cast

from tunesmith.core import files, layout
from tunesmith.core.errors import IntegrityError, UntrustedError
from tunesmith.registry import signing as signatures
from tunesmith.registry.signing import Signing
from tunesmith.registry.tracker import DATABASE, local_uri, user_name

FOLDER, NAME = ".tunesmith", "histories.json"


class Acceptance(TypedDict):
    """A decision to go on with a history that lacks an entry seen before."""

    lost: str
    """Hash of the missing entry; empty where the whole history was set aside."""
    who: str
    when: str
    """UTC time, ISO 8601."""
    why: str


class Span(NamedTuple):
    """The ends of a history."""

    first: str | None
    """Hash of the first entry; None for an empty history."""
    last: str | None
    """Hash of the last entry."""
    number: int
    """How many entries there are."""


class Known(TypedDict):
    """What is known of a history."""

    first: str | None
    """Hash of the first entry, by which the history is known under another address of its tracker."""

    entry: str | None
    """Hash of the last entry that was accepted; None where a history was set aside and none was seen since."""
    number: int
    """How many entries there were up to it."""
    accepted: list[Acceptance]
    """Oldest first."""
    aside: list[str]
    """Hashes of the first entries of histories that were set aside, and may not come back."""


class _Shared(TypedDict):
    """The signed text of the team's file."""

    of: str
    known: Known


def memory() -> Path:
    """Return the path of this project's own memory."""
    home = layout.home()
    if os.access(home, os.W_OK):
        return home / FOLDER / NAME
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tunesmith" / NAME


def load(tracker: str, model: str, signing: Signing) -> dict[Path, Known]:
    """Return what is known of the history of a model, by the file that holds it.

    Raises IntegrityError where a file is unreadable, or the team's file is not as signed.
    """
    own = _read_own().get(_key(tracker, model))
    known = {} if own is None else {memory(): own}
    if signing.history is not None and signing.history.exists():
        known[signing.history] = _read_shared(signing.history, model, signing)
    return known


def elsewhere(tracker: str, model: str) -> list[Known]:
    """Return what this project knows of histories of a model at other addresses, or other spellings of this one."""
    here = _key(tracker, model)
    return [known for key, known in _read_own().items() if key.startswith(_key("", model)) and key != here]


def decisions(tracker: str, model: str, signing: Signing) -> list[Acceptance]:
    """Return every decision to go on without an entry, each once."""
    known = load(tracker, model, signing).values()
    return list({json.dumps(a): a for last in known for a in last["accepted"]}.values())


def remember(tracker: str, model: str, span: Span) -> None:
    """Write the last entry of a history to this project's own memory, unless a later one is there."""
    with _own() as everything:
        before = everything.get(_key(tracker, model))
        if before is None or before["number"] < span.number:
            everything[_key(tracker, model)] = _updated(before, span)


def _updated(before: Known | None, span: Span, accepted: Sequence[Acceptance] = (), aside: Sequence[str] = ()) -> Known:
    """Return what is known of a history that now ends elsewhere, with what was decided before and just now."""
    return {
        "first": span.first,
        "entry": span.last,
        "number": span.number,
        "accepted": [*(before["accepted"] if before else []), *accepted],
        "aside": [*(before["aside"] if before else []), *aside],
    }


def share(model: str, span: Span, signing: Signing) -> Path | None:
    """Sign the last entry and write it to the team's file, if there is one. Returns its path."""
    path = signing.history
    if path is not None:
        before = _read_shared(path, model, signing) if path.exists() else None
        _write_shared(path, model, _updated(before, span), signing)
    return path


def accept(
    tracker: str,
    model: str,
    span: Span,
    lost: Sequence[str | None],
    reason: str,
    signing: Signing,
    aside: Sequence[str] = (),
) -> list[Path]:
    """Remember a history that does not follow from the one known before; return the files that do.

    lost: the entries that it lacks. aside: first entries of histories that may not come back.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    decisions: list[Acceptance] = [{"lost": str(e), "who": user_name(), "when": now, "why": reason} for e in lost]
    with _own() as everything:
        before = everything.get(_key(tracker, model))
        for key in [key for key in everything if key.startswith(_key("", model))]:
            if everything[key]["first"] in {span.first, *aside} - {None}:
                del everything[key]  # the same history at another address
        everything[_key(tracker, model)] = _updated(before, span, decisions, aside)
    if signing.history is None:
        return [memory()]
    shared = None
    with suppress(IntegrityError):  # of a key that is not trusted any more
        shared = _read_shared(signing.history, model, signing)
    _write_shared(signing.history, model, _updated(shared, span, decisions, aside), signing)
    return [memory(), signing.history]


@contextmanager
def _own() -> Iterator[dict[str, Known]]:
    """Yield the content of this project's own memory, and write what the block changes of it."""
    path = memory()
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(path.with_name(f"{NAME}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (ignore := path.with_name(".gitignore")).exists():
                files.write_text(ignore, "*\n")
        except OSError as error:
            raise IntegrityError(
                f"{path}: the last entry of the history cannot be remembered here: {error.strerror}",
                fix="let XDG_STATE_HOME name a folder that stays and can be written to",
            ) from None
        everything = _read_own()
        before = dict(everything)
        yield everything
        if everything != before:
            files.write_text(path, json.dumps(everything, indent=1) + "\n")


def _write_shared(path: Path, model: str, known: Known, signing: Signing) -> None:
    text = json.dumps(_Shared(of=model, known=known), sort_keys=True)
    document = {"text": text, "signature": signatures.sign_text(text, signing)}
    files.write_text(path, json.dumps(document, indent=1) + "\n")


def _key(tracker: str, model: str) -> str:
    """Return the key of a history in this project's memory; that of the project's own database moves with the project.

    The key without a tracker begins those of all trackers.
    """
    return f"{model} at {DATABASE if tracker == local_uri() else tracker}"


def _read_own() -> dict[str, Known]:
    path = memory()
    try:
        return {key: _known(value) for key, value in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"{path}: not readable: {error!r}",
            fix="restore it from a backup; or delete it, and the next command remembers the history as it is then",
        ) from None


def _read_shared(path: Path, model: str, signing: Signing) -> Known:
    try:
        document = json.loads(path.read_text())
        text, signature = str(document["text"]), str(document["signature"])
        signer = signatures.verify_text(text, signature, signing, withdrawn=True)
        shared = cast("_Shared", json.loads(text))
        key = signatures.withdrawn_keys(signing).get(signer)
        if key is not None and (key.revoked or shared["known"]["entry"] is None):
            raise UntrustedError(
                f": signed by {key.file}, which params.yaml " + ("revokes" if key.revoked else "retires"),
                fix=f"bring back one that somebody else signed (`git log {path}`), or delete it: the next promotion "
                "writes it",
            )
        if shared["of"] != model:
            raise ValueError(f"it is about {shared['of']}, not {model}")
        return _known(shared["known"])
    except IntegrityError as error:  # names a temporary file
        raise type(error)(f"{path}: {error.reason.partition(': ')[2]}", fix=error.fix) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"{path}: not a signed memory of a history: {error}",
            fix=f"bring the committed file back (`git checkout {path}`), or correct signing.history in params.yaml",
        ) from None


def _known(value: Known) -> Known:
    entry = None if value["entry"] is None else str(value["entry"])
    accepted: list[Acceptance] = [
        {"lost": str(a["lost"]), "who": str(a["who"]), "when": str(a["when"]), "why": str(a["why"])}
        for a in value["accepted"]
    ]
    first, aside = value.get("first"), value.get("aside", [])  # which memories of earlier releases lack
    return {
        "first": None if first is None else str(first),
        "entry": entry,
        "number": int(value["number"]),
        "accepted": accepted,
        "aside": [str(entry) for entry in aside],
    }
