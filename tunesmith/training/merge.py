"""Merge an adapter into the weights that it is on, which makes full weights and a model of its own.

Rounding makes it differ from its adapter, and an adapter of QLoRA meets weights that are not quantized
(docs/decisions/009). So it is evaluated, compared and registered as itself, never assumed equal.
"""

import json
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from tunesmith.core import files, journal, lineage, manifest, ready_rows
from tunesmith.core.errors import ParamsError, TrainingError
from tunesmith.core.journal import EndEvent, Event, Journal
from tunesmith.core.lineage import Digests, Merged
from tunesmith.core.manifest import Manifest
from tunesmith.core.ready_rows import Row
from tunesmith.models import generation, loading, saving, weights
from tunesmith.models.device import Profile, peak_memory_bytes
from tunesmith.models.images import parts
from tunesmith.models.loading import OpenModel
from tunesmith.training import checks

PROBE_TOKENS = 32
"""The longest answer to a probe prompt, in tokens."""


def merge(adapter: Path, base: Path, out: Path, profile: Profile) -> Manifest:
    """Merge the adapter in folder ``adapter`` and save it to ``out``, whole or not at all.

    It is merged in float32 and rounded once, to the dtype of the weights under it. Raises ParamsError where there is
    nothing to merge, IntegrityError as `loading.open_model` does, and TrainingError where the merged weights are not
    finite or equal the weights under the adapter.
    """
    began = time.monotonic()
    _check_can_merge(adapter)
    opened = loading.open_model(adapter, base, replace(profile, dtype=torch.float32))
    trained = journal.read(adapter / journal.NAME)
    with files.new_folder(out) as work, Journal(work / journal.NAME) as log:
        start = journal.first(trained, "start")
        about = {"key": uuid.uuid4().hex, "model": out.name, "method": f"{start['method']}, merged"}
        log.write("start", **_fields(start) | about | {"merged": adapter.name})
        dtype = AutoConfig.from_pretrained(opened.full_weights, trust_remote_code=False).dtype or torch.float32
        saving.save_model(_merge_and_check(opened, dtype, log, _probes(trained)).to(dtype), work)
        saving.save_reader(opened, work)
        origin = _lineage(opened, adapter, profile)
        (work / lineage.NAME).write_text(json.dumps(origin, indent=2) + "\n")
        saving.write_card(work, out.name, origin)
        for warning in (event for event in trained if event["event"] == "warning"):
            log.write("warning", **_fields(warning))
        log.write("end", **_end(journal.first(trained, "end"), out.name, time.monotonic() - began, profile))
        return manifest.write(work)


def _check_can_merge(adapter: Path) -> None:
    manifest.read(adapter)
    if not loading.is_adapter(adapter):
        raise ParamsError(
            f"package.merged: {adapter} holds full weights: there is nothing to merge",
            fix=f"take {adapter.name} out of package.merged in params.yaml; it can be served as it is",
        )
    if lineage.read(adapter)["method"]["objective"] == "reward":
        raise ParamsError(
            f"package.merged: {adapter} is a reward model, which answers no prompt",
            fix=f"take {adapter.name} out of package.merged in params.yaml",
        )


def _merge_and_check(opened: OpenModel, dtype: torch.dtype, log: Journal, probes: list[Row]) -> Any:
    """The merged model, its weights rounded to ``dtype``, after checking that it differs from the weights under it."""
    adapted: Any = opened.model
    under = set(weights.digests(adapted, trained=False).values())
    with adapted.disable_adapter():
        before = generation.answer(adapted, opened.tokenizer, probes, max_new_tokens=PROBE_TOKENS)
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError:  # peft's error for a weight that is not finite
        raise _error(opened, "gives weights that are not finite") from None
    for parameter in merged.parameters():  # still in float32, so that no answer differs by the precision of products
        parameter.data = parameter.data.to(dtype).float()
    if not set(weights.digests(merged, trained=False).values()) - under:
        raise _error(opened, "changes no weight")
    after = generation.answer(merged, opened.tokenizer, probes, max_new_tokens=PROBE_TOKENS)
    for when, answers in (("before", before), ("after", after)):
        for row, completion in zip(probes, answers, strict=True):
            log.write("sample", when=when, **ready_rows.asked(row), completion=completion)
    checks.check_answers_moved(before, after)
    return merged


def _error(opened: OpenModel, reason: str) -> TrainingError:
    return TrainingError(
        f"merged into {opened.full_weights}, the adapter {reason}", fix="train it again; nothing was saved"
    )


def _probes(trained: list[Event]) -> list[Row]:
    """The probe prompts of the adapter's training but those with images, which are with the rows."""
    samples = [event for event in trained if event["event"] == "sample" and event["when"] == "after"]
    return [ready_rows.asked(event) for event in samples if not parts.images(event["prompt"])]


def _lineage(opened: OpenModel, adapter: Path, profile: Profile) -> lineage.Lineage:
    """The adapter's lineage, with its own making and weights under it moved to ``merged``."""
    origin, making = lineage.read(adapter), lineage.making(profile.name)
    digests: Digests = {"digest": opened.manifest.digest, "weights_digest": opened.manifest.weights_digest}
    merged: Merged = {
        "model": adapter.name,
        **digests,
        "on": origin.pop("on"),
        "created": origin["created"],
        "code": origin["code"],
        "fingerprint": origin["fingerprint"],
        "document": origin["document"],
        "environment": origin["environment"],
        "hardware": origin["hardware"],
        "command": origin["command"],
    }
    origin.pop("parents")
    return {**origin, **making, "merged": merged, "parents": {adapter.name: digests}}


def _end(trained: EndEvent, name: str, seconds: float, profile: Profile) -> dict[str, object]:
    """The fields of the `end` event: the adapter's training with the cost of merging."""
    return _fields(trained) | {
        "seconds": seconds,
        "peak_memory_bytes": max(trained["peak_memory_bytes"], peak_memory_bytes(profile)),
        "costs": trained["costs"] | {name: seconds},
    }


def _fields(event: Event) -> dict[str, object]:
    return {name: value for name, value in event.items() if name not in ("event", "time")}
