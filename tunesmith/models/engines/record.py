"""What is recorded of the engine that generated: enough to have the same one again."""

from typing import TypedDict

from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.settings import Engine


class EngineRecord(TypedDict):
    """The vLLM that answered."""

    origin: str
    """How it was named (`Environment.origin`). Of what runs at an address, less is known: the build and the dtype are
    those of this machine."""
    version: str
    """Its version, such as 0.32.0+cpu."""
    build: str
    """The hardware that it is built for: cuda or cpu."""
    lock_digest: str | None
    """What pins its libraries (`Environment.lock_digest`)."""
    dtype: str
    """The type of the numbers that it computes with."""
    settings: dict[str, object]
    """The settings of `engine` in params.yaml that change what it computes."""


def record(environment: Environment, settings: Engine, dtype: str) -> EngineRecord:
    """Return the record of an engine. dtype: that of the weights, where `Engine.dtype` is auto."""
    return {
        "origin": environment.origin,
        "version": environment.version,
        "build": environment.build,
        "lock_digest": environment.lock_digest,
        "dtype": dtype if settings.dtype == "auto" else settings.dtype,
        "settings": settings.model_dump(mode="json", include={"address", "batch_invariant", "max_model_len", "args"}),
    }


def name(record: EngineRecord | None) -> str:
    """Return the engine in words: transformers, where none is recorded."""
    return f"vLLM {record['version']}".strip() if record else "transformers"
