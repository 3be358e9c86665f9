"""The record of the engine that generated: what it takes to have the same one again."""

from typing import TypedDict

from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.settings import Engine


class EngineRecord(TypedDict):
    """The vLLM that answered."""

    origin: str
    """The way it was named (`Environment.origin`). For an address, build and dtype are this machine's: the server's are
    not known."""
    version: str
    """Its version, such as 0.32.0+cpu."""
    build: str
    """The hardware that it is built for: cuda or cpu."""
    lock_digest: str | None
    """The digest that pins its libraries (`Environment.lock_digest`)."""
    dtype: str
    """The dtype that it computes in."""
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
    """Return the engine's name and version for people; transformers where there is no record."""
    return f"vLLM {record['version']}".strip() if record else "transformers"
