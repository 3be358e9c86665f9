"""Every error that a user can act on, in one tree.

TunesmithError
├── ParamsError       params.yaml lacks a value that a stage needs, or holds one that is unknown or wrong
├── MissingLibraryError  a library of an extra is not installed
├── StaleCodeError    a stage's code changed since its fingerprint was taken
├── DataError         a data file cannot be used
├── BaseModelError    the base model cannot be fetched, or differs from its pin
│   └── UnreachableBaseError      its source cannot be reached for now
├── ChatError         the chat template cannot express a conversation, or does not end a turn
├── BusyError         another process is writing the same output
├── IntegrityError    a folder's bytes differ from its manifest, or from the bytes that were signed
│   ├── SupersededError  a newer statement about the same was signed
│   └── UntrustedError   signed by someone who is not trusted here
├── ResourceError     the disk has no room for what must be written
├── TrainingError     a training went wrong, or moved weights that must not move
├── EngineError       vLLM is not installed or does not work, or answers otherwise than a request asked
├── EvaluationError   models cannot be scored, or cannot be compared with each other
├── ContainerError    a stage cannot run in its container, or exceeded a limit there
├── ClusterError      a stage cannot run on the Ray cluster, or its job there died
├── LineageError      a model cannot be made again from its lineage
├── SandboxError      no sandbox can hold generated code on this machine, or it failed to start
├── ServingError      a model cannot be served, or a server answers otherwise than its model did in the evaluation
├── SigningError      the key that signs models, or a trusted one, cannot be used
└── RegistryError     the tracking server cannot be used, or its contents are wrong
    ├── RegistrationError         some of the models could not be registered
    └── UnreachableTrackerError   the tracking server cannot be reached for now
"""

from functools import partial

from tunesmith.core.formatting import printable


class TunesmithError(Exception):
    """An error that a user can act on: where and why it arose, then how to fix it.

    ``str(error)`` is the message for the user, who needs no traceback beside it. What it quotes, such as a tag of a
    tracker or the name of a file, cannot control the terminal.
    """

    def __init__(self, reason: str, *, fix: str) -> None:
        reason, fix = printable(reason, lines=True), printable(fix, lines=True)
        super().__init__(f"{reason}\n  fix: {fix}")
        self.reason = reason
        self.fix = fix

    def __reduce__(self) -> tuple[partial["TunesmithError"], tuple[str]]:
        """Pickle with the fix, which is no positional argument: processes hand errors to each other."""
        return partial(type(self), fix=self.fix), (self.reason,)


class ParamsError(TunesmithError):
    pass


class MissingLibraryError(TunesmithError):
    pass


class StaleCodeError(TunesmithError):
    pass


class DataError(TunesmithError):
    pass


class BaseModelError(TunesmithError):
    pass


class UnreachableBaseError(BaseModelError):
    pass


class ChatError(TunesmithError):
    pass


class BusyError(TunesmithError):
    pass


class IntegrityError(TunesmithError):
    pass


class SupersededError(IntegrityError):
    pass


class UntrustedError(IntegrityError):
    pass


class ResourceError(TunesmithError):
    pass


class TrainingError(TunesmithError):
    pass


class EvaluationError(TunesmithError):
    pass


class EngineError(TunesmithError):
    pass


class ContainerError(TunesmithError):
    pass


class ClusterError(TunesmithError):
    pass


class LineageError(TunesmithError):
    pass


class SandboxError(TunesmithError):
    pass


class ServingError(TunesmithError):
    pass


class SigningError(TunesmithError):
    pass


class RegistryError(TunesmithError):
    pass


class RegistrationError(RegistryError):
    pass


class UnreachableTrackerError(RegistryError):
    pass
