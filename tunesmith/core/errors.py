"""What can go wrong, in one tree.

TunesmithError
├── ParamsError       params.yaml does not say what a stage needs, or says something unknown
├── StaleCodeError    a stage's code changed since its fingerprint was taken
├── DataError         a data file cannot be used
├── BaseModelError    the base model cannot be fetched, or is not what was pinned
│   └── UnreachableBaseError      where it comes from does not give it for now
├── ChatError         the chat template cannot express a conversation, or does not end a turn
├── BusyError         another process is writing the same output
├── IntegrityError    a folder's bytes are not those its manifest names, or not those that were signed
│   ├── SupersededError  something newer was signed of the same
│   └── UntrustedError   signed by someone who is not trusted here
├── TrainingError     training went wrong, or moved what it must not move
├── EvaluationError   models cannot be scored, or not compared with each other
├── EngineError       a stage cannot run where it should, or went over a limit there
├── LineageError      a model cannot be made again from what is recorded of it
├── SandboxError      no sandbox for generated code holds on this machine, or it failed to start
├── ServingError      a model cannot be served, or a server does not answer as its model did when it was evaluated
├── SigningError      the key that signs models, or one that is trusted, cannot be used
└── RegistryError     the tracking server, or what it holds, is not as needed
    ├── RegistrationError         some of the models could not be registered
    └── UnreachableTrackerError   it does not answer for now
"""


class TunesmithError(Exception):
    """An error a user can act on: where and why, then how to mend it.

    ``str(error)`` is what the user reads; it never needs a traceback beside it.
    """

    def __init__(self, reason: str, *, fix: str) -> None:
        super().__init__(f"{reason}\n  fix: {fix}")
        self.reason = reason
        self.fix = fix


class ParamsError(TunesmithError):
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


class TrainingError(TunesmithError):
    pass


class EvaluationError(TunesmithError):
    pass


class EngineError(TunesmithError):
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
