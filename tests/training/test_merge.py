import json
import shutil
from pathlib import Path
from typing import Any

import adapters
import method_project
import pytest
import torch
from profiles import EXACT
from safetensors.torch import load_file

from stages import compare as compare_stage
from stages import evaluate as evaluate_stage
from stages import merge as merge_stage
from tunesmith.core import files, fingerprint, journal, lineage, manifest
from tunesmith.core.errors import IntegrityError, ParamsError, TrainingError
from tunesmith.evaluation import comparison, differences
from tunesmith.evaluation.gate import decide_all
from tunesmith.evaluation.gate_rules import Gate
from tunesmith.models import generation, loading
from tunesmith.planning import model_shape
from tunesmith.reports import comparison_page
from tunesmith.training.merge import merge

IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy, so that models lie beside it."""
    shutil.copytree(tiny_base, tmp_path / "models" / "base")
    return tmp_path / "models" / "base"


@pytest.fixture
def adapter(base: Path) -> Path:
    return adapters.write(base.parent / "sft-lora", base)


def logits(folder: Path, base: Path) -> torch.Tensor:
    with torch.inference_mode():
        values: torch.Tensor = loading.open_model(folder, base, EXACT).model(input_ids=IDS).logits
    return values


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in journal.read(folder / journal.NAME) if event["event"] == kind]


def test_a_merged_model_answers_as_its_adapter_and_unlike_the_base(base: Path, adapter: Path) -> None:
    out = base.parent / "sft-lora-merged"
    assert merge(adapter, base, out, EXACT) == manifest.verify(out)
    assert not loading.is_adapter(out)
    torch.testing.assert_close(logits(out, base), logits(adapter, base), atol=1e-4, rtol=1e-4)
    assert (logits(out, base) - logits(base, base)).abs().max() > 0.1


def test_merging_leaves_base_and_adapter_as_they_were(base: Path, adapter: Path) -> None:
    before = manifest.read(base), manifest.read(adapter)
    merge(adapter, base, base.parent / "m", EXACT)
    assert (manifest.verify(base), manifest.verify(adapter)) == before


def test_a_merged_folder_has_the_files_of_a_folder_of_full_weights(base: Path, adapter: Path) -> None:
    out, full = base.parent / "m", adapters.write_full(base.parent / "sft-full", base)
    assert merge(adapter, base, out, EXACT).files.keys() == manifest.read(full).files.keys()
    template = "chat_template.jinja"
    assert (out / template).read_text() == (base / template).read_text()


@pytest.mark.parametrize("on_full", [False, True])
def test_an_adapter_is_merged_into_the_weights_that_it_is_on(base: Path, on_full: bool) -> None:
    full = adapters.write_full(base.parent / "sft-full", base)
    on = full if on_full else base
    adapter = adapters.write(base.parent / "dpo", base, on=on)
    merge(adapter, base, out := base.parent / "dpo-merged", EXACT)
    torch.testing.assert_close(logits(out, base), logits(adapter, base), atol=1e-4, rtol=1e-4)
    assert lineage.read(out)["merged"]["on"] == {"model": on.name, **adapters.digests(on)}


def test_weights_are_rounded_once_to_the_dtype_under_them(tiny_base: Path, tmp_path: Path) -> None:
    base = adapters.rounded(tiny_base, tmp_path / "base")
    adapter = adapters.write(tmp_path / "sft-lora", base)
    merge(adapter, base, out := tmp_path / "m", EXACT)
    saved, under, lora = (
        load_file(folder / f"{name}.safetensors")
        for folder, name in ((out, "model"), (base, "model"), (adapter, "adapter_model"))
    )
    name = "model.layers.0.self_attn.q_proj"
    a, b = (lora[f"base_model.model.{name}.lora_{side}.weight"].float() for side in "AB")
    exact = under[f"{name}.weight"].float() + 8 / 4 * b @ a
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    assert torch.equal(saved[f"{name}.weight"], exact.to(torch.bfloat16))


def test_the_lineage_is_the_adapters_with_its_making_under_merged(base: Path, adapter: Path) -> None:
    merge(adapter, base, out := base.parent / "m", EXACT)
    merged, origin = lineage.read(out), lineage.read(adapter)
    for kept in ("base", "inputs", "params", "seed", "method"):
        assert merged[kept] == origin[kept]
    assert "on" not in merged
    assert merged["parents"] == {"sft-lora": adapters.digests(adapter)}
    for field in ("on", "created", "code", "fingerprint", "document", "environment", "hardware", "command"):
        assert merged["merged"][field] == origin[field]
    assert merged["merged"]["digest"] == manifest.read(adapter).digest


def test_the_journal_is_a_run_of_its_own_whose_costs_include_the_adapters(base: Path, adapter: Path) -> None:
    merge(adapter, base, out := base.parent / "m", EXACT)
    (start,), (end,) = events(out, "start"), events(out, "end")
    assert (start["model"], start["merged"], start["start"]) == ("m", "sft-lora", "base")
    assert start["method"] == "SFT with LoRA, merged"
    assert start["key"] != events(adapter, "start")[0]["key"]
    assert end["costs"] == {"sft-start": 30.0, "sft-lora": 60.0, "m": end["seconds"]}
    assert end["peak_memory_bytes"] == 2**50
    assert [event["text"] for event in events(out, "warning")] == ["look here"]
    assert not events(out, "step")


def test_probes_are_answered_anew_and_journaled(base: Path, adapter: Path) -> None:
    merge(adapter, base, out := base.parent / "m", EXACT)
    before, after = (event["completion"] for event in events(out, "sample"))
    for folder, answer in ((base, before), (out, after)):
        opened = loading.open_model(folder, base, EXACT)
        assert generation.answer(opened.model, opened.tokenizer, [{"prompt": adapters.PROBE}], max_new_tokens=32) == [
            answer
        ]


def full(base: Path) -> Path:
    return adapters.write_full(base.parent / "sft-full", base)


def scorer(base: Path) -> Path:
    folder = adapters.write(base.parent / "reward", base)
    adapters.edit(folder, lineage.NAME, method={"objective": "reward", "weights": "lora"})
    return folder


def idle(base: Path) -> Path:
    return adapters.write(base.parent / "idle", base, scale=0.0)


def faint(base: Path) -> Path:
    """Weights move; no answer does."""
    return adapters.write(base.parent / "faint", base, scale=1e-4)


def broken(base: Path) -> Path:
    return adapters.write(base.parent / "broken", base, scale=float("nan"))


def tampered(base: Path) -> Path:
    folder = adapters.write(base.parent / "tampered", base)
    (folder / "adapter_config.json").write_text("{}")
    return folder


def linked(base: Path) -> Path:
    folder = adapters.write(base.parent / "linked", base)
    weights = folder / "adapter_model.safetensors"
    weights.rename(base.parent / "elsewhere")
    weights.symlink_to(base.parent / "elsewhere")
    return folder


def stranger(base: Path) -> Path:
    folder = adapters.write(base.parent / "stranger", base)
    origin = lineage.read(folder)
    adapters.edit(folder, lineage.NAME, base=origin["base"] | {"weights_digest": 64 * "0"})
    return folder


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (full, ParamsError, "nothing to merge"),
        (scorer, ParamsError, "a reward model"),
        (idle, TrainingError, "the adapter changes no weight"),
        (faint, TrainingError, "answers all 1 probe prompts exactly as its start"),
        (broken, TrainingError, "weights that are not finite"),
        (tampered, IntegrityError, r"adapter_config.json \(changed\)"),
        (linked, IntegrityError, "a link"),
        (stranger, IntegrityError, "trained on a base with weights 000000000000"),
        (lambda base: base.parent / "nowhere", IntegrityError, "no readable manifest"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused_and_nothing_is_written(
    base: Path, make: Any, error: Any, message: str
) -> None:
    adapter, out = make(base), base.parent / "m"
    with pytest.raises(error, match=message):
        merge(adapter, base, out, EXACT)
    assert not out.exists()


def test_a_merged_model_is_evaluated_and_compared_as_a_model_of_its_own(
    base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["base", "sft-lora", "sft-lora-merged"]
    project = base.parents[1]
    monkeypatch.chdir(project)
    shutil.move(base, project / "kept")
    suite = {"dataset": "answers", "verifier": "number", "answer_format": r"-?\d+", "max_new_tokens": 4}
    rules = [
        {"must": "keep", "suite": "arithmetic", "metric": "stopped", "within": 0.05},
        {"must": "not_exceed", "metric": "training_seconds", "limit": 1e6},
    ]
    params = {
        "sft": {"sft-lora": method_project.PARAMS["sft"]["sft-lora"]},
        "package": {"merged": {"sft-lora-merged": {"adapter": "sft-lora"}}},
        "evaluate": {"suites": {"arithmetic": suite}, "noise_batch_size": None},
        "gate": {"rules": rules, "resamples": 1000},
    }
    method_project.make(project, project / "kept", params)
    files.write_text(fingerprint.FOLDER / "evaluate", "code of a test\n")

    assert "sft-lora-merged" in merge_stage.main("sft-lora-merged")
    evaluate_stage.main([])
    evaluate_stage.main(["base"])  # the reports and scores of the others stay
    assert set(json.loads(evaluate_stage.METRICS.read_text())) == set(names)
    shape = model_shape.read("models/base")
    evaluated = [compare_stage.open_evaluated(name, shape) for name in names]
    decisions = decide_all(Gate(**params["gate"]), evaluated, [])
    result = comparison.compare(evaluated, [], differences.Compare(resamples=200), None, decisions)

    merged = result["models"]["sft-lora-merged"]
    metrics = json.loads(Path("reports/evaluation/sft-lora-merged/metrics.json").read_text())
    assert metrics["model_digest"] == merged["model_digest"] == manifest.verify(Path("models/sft-lora-merged")).digest
    assert merged["cost"]["seconds"] > result["models"]["sft-lora"]["cost"]["seconds"] == 90.0
    assert merged["weights_bytes"] > result["models"]["sft-lora"]["weights_bytes"]
    assert set(result["gate"]) == {"sft-lora", "sft-lora-merged"}
    assert "SFT with LoRA, merged" in comparison_page.page(result, evaluated)
