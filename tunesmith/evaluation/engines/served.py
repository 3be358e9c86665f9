"""Evaluation by vLLM: choose it where it can serve every model, and prove each model before its answers count.

transformers first opens every model, for seconds, and computes a few log-probabilities; the server of its weights is
started afterwards, when the GPU is free. It must give the same log-probabilities under the model's name.
"""

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import EngineError, EvaluationError
from tunesmith.core.manifest import Manifest
from tunesmith.core.ready_rows import Row
from tunesmith.evaluation.engines.asked import Served
from tunesmith.evaluation.suites import Evaluate
from tunesmith.models import chat, generation, loading, servable_adapter
from tunesmith.models.device import Profile
from tunesmith.models.engines import commands, environment, identity, vllm
from tunesmith.models.engines.client import Client
from tunesmith.models.engines.environment import Environment
from tunesmith.models.engines.settings import Engine
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens, token_log_probs


@dataclass(frozen=True)
class Reference:
    """A model as transformers opens it. log_probs: those of the conversations that prove it (`identity.LogProbs`)."""

    folder: Path
    manifest: Manifest
    base: Manifest
    full_weights: Path
    tokenizer: PreTrainedTokenizerBase
    stop_tokens: tuple[int, ...]
    log_probs: list[list[float]]

    @property
    def is_adapter(self) -> bool:
        return loading.is_adapter(self.folder)


@dataclass(frozen=True)
class Proved:
    """A proved model that vLLM serves. disagreement: the two engines' difference about it, in nats a token."""

    reference: Reference
    model: Served
    disagreement: float


def choose(
    settings: Evaluate, engine: Engine, folders: Sequence[Path], profile: Profile, seeing: Sequence[str] = ()
) -> Environment | None:
    """The environment of the vLLM that answers; None where transformers does.

    folders: of all models that are to be compared. seeing: names of the suites whose prompts have images. Raises
    EngineError where vLLM is required and not installed, and EvaluationError where it cannot serve one of the models,
    or be asked one of the suites.
    """
    if settings.engine == "transformers" or (settings.engine == "auto" and profile.device == "cpu"):
        named = [name for name in ("python", "image", "address") if getattr(engine, name) is not None]
        if named and settings.engine == "auto":
            print(f"  transformers answers, not engine.{named[0]}: no GPU is here (evaluate.engine: vllm would use it)")
        return None
    if (vllm_env := environment.find(engine)) is None:
        if settings.engine == "auto":
            return None
        raise EngineError(
            "params.yaml: evaluate.engine is vllm, and no vLLM is installed",
            fix=f"{environment.HOW_TO_INSTALL}; or set evaluate.engine to auto",
        )
    if problem := _unaskable(seeing) or _unservable(folders):
        reason, fix = problem
        if settings.engine == "vllm":
            raise EvaluationError(reason, fix=fix)
        print(f"  transformers answers for all models: {reason}", flush=True)
        return None
    return vllm_env


def refer(
    folders: Sequence[Path], base: Path, profile: Profile, rows: Sequence[Row], batch_size: int
) -> dict[str, Reference]:
    """A reference for the base and every model, by name. rows: those whose conversations prove the models."""
    conversations = identity.conversations(rows)
    references, sequences = dict[str, Reference](), list[Tokens]()
    for folder, opened in loading.open_each(dict.fromkeys([base, *folders]), base, profile):
        sequences = sequences or [_tokens(opened, row) for row in conversations]  # the same for every model
        references[folder.name] = Reference(
            folder,
            opened.manifest,
            opened.base,
            opened.full_weights,
            opened.tokenizer,
            tuple(generation.end_tokens(opened.model, opened.tokenizer)),
            token_log_probs(opened, sequences, batch_size=batch_size),
        )
    opened = None  # type: ignore[assignment]
    gc.collect()
    if profile.device == "cuda":
        torch.cuda.empty_cache()  # for the server
    return references


@contextmanager
def serving(
    names: Sequence[str],
    references: dict[str, Reference],
    rows: Sequence[Row],
    found: Environment,
    engine: Engine,
    profile: Profile,
) -> Iterator[list[Proved]]:
    """Serve and prove the named models, which share full weights, while the block runs.

    references, rows: as for `refer`. Raises EngineError where the server does not start or another model answers.
    """
    named = [references[name] for name in names]
    weights = named[0].full_weights
    adapters = [reference.folder for reference in named if reference.is_adapter]
    if engine.address is not None and weights != references[loading.BASE].full_weights:
        raise EvaluationError(
            f"{named[0].folder}: has weights of its own, and the server at engine.address has only the base's",
            fix="remove engine.address from params.yaml, or set evaluate.engine to transformers",
        )
    print(f"  starting vLLM {found.version} for {', '.join(names)}", flush=True)
    sequences = [_tokens(references[loading.BASE], row) for row in identity.conversations(rows)]
    log_probs = {name: reference.log_probs for name, reference in references.items()}
    with vllm.running(
        found,
        engine,
        weights,
        dtype=str(profile.dtype).removeprefix("torch."),
        adapters=commands.adapters_of(adapters) if adapters else None,
        mounts=adapters,
    ) as server:
        context, proved = server.client.context(), list[Proved]()
        with _loaded(server.client, [reference for reference in named if reference.is_adapter]) as loaded:
            for reference in named:
                name = loaded.get(reference.folder.name, server.weights)
                scored = server.client.score(name, sequences)
                answered = [[token.log_prob for token in tokens] for tokens in scored]
                disagreement = identity.check(reference.folder.name, answered, log_probs)
                if alike := identity.indistinguishable(reference.folder.name, answered, log_probs):
                    print(f"  {reference.folder.name} cannot be told apart from {', '.join(alike)} by these prompts")
                model = Served(server.client, name, reference.tokenizer, context, reference.stop_tokens)
                proved.append(Proved(reference, model, disagreement))
            yield proved


@contextmanager
def _loaded(client: Client, adapters: Sequence[Reference]) -> Iterator[dict[str, str]]:
    """Load adapters while the block runs. Yields their names on the server, with their digests, by folder name."""
    names = {
        reference.folder.name: f"{reference.folder.name}-{reference.manifest.digest[:12]}" for reference in adapters
    }
    held = client.models()
    for reference in adapters:
        if (name := names[reference.folder.name]) not in held:  # a server at an address may have it from an earlier run
            client.load_adapter(name, reference.folder)
    try:
        yield names
    finally:
        with suppress(EngineError):  # of a server that is gone
            for name in names.values():
                client.unload_adapter(name)


def groups(names: Sequence[str], references: dict[str, Reference]) -> list[list[str]]:
    """The names of the models, grouped by their full weights: one server can answer for a group."""
    by_weights: dict[Path, list[str]] = {}
    for name in names:
        by_weights.setdefault(references[name].full_weights, []).append(name)
    return list(by_weights.values())


def _unaskable(seeing: Sequence[str]) -> tuple[str, str] | None:
    """Why vLLM cannot be asked a suite, and the fix; None where it can be asked all."""
    if not seeing:
        return None
    return (
        f"evaluate.suites.{seeing[0]}: its prompts have images, and vLLM is sent tokens here, to the letter, which "
        "have no pixels",
        "set evaluate.engine to transformers",
    )


def _unservable(folders: Sequence[Path]) -> tuple[str, str] | None:
    """Why vLLM cannot serve one of the models, and the fix; None where it can serve all."""
    for folder in filter(loading.is_adapter, folders):
        config = json.loads((folder / loading.ADAPTER).read_text())
        for reason in servable_adapter.reasons(config, servable_adapter.HIGHEST_RANK):
            return (
                f"{folder}: vLLM cannot serve this adapter: {reason.text}",
                "merge it (package.merged in params.yaml) and evaluate that, or set evaluate.engine to transformers",
            )
    return None


def _tokens(model: OpenModel | Reference, row: Row) -> Tokens:
    """The last tokens of a row's prompt and its own answer, as ids: models differ most there."""
    prompt = chat.encode_prompt(model.tokenizer, row["prompt"], row.get("tools"))
    messages = row.get("completion") or row.get("chosen") or []
    answer = str(messages[-1].get("content") or "") if messages else ""
    tokens: Tokens = prompt + model.tokenizer.encode(answer, add_special_tokens=False)
    return tokens[-identity.TOKENS :]
