import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import data_sets as data
import pytest
from click.testing import CliRunner

from tunesmith.cli import plan, plan_entries
from tunesmith.cli.main import main
from tunesmith.core import ready_rows
from tunesmith.planning import hardware, methods, model_shape
from tunesmith.planning.workload import CPU
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.entries.sft import Sft

ROOT = Path(__file__).parents[2]
ASKED, RIGHT, WRONG = (
    [{"role": role, "content": text}] for role, text in (("user", "2 + 2"), ("assistant", "4"), ("assistant", "5"))
)
SIDES = {"prompt": ASKED, "chosen": RIGHT, "rejected": WRONG}
SUMS = [{"question": f"what is {i} and one", "answer": f"add them\n#### {i + 1}"} for i in range(50)]


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and a terminal in which one table is enough."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    return tmp_path


@pytest.fixture
def project(outside: Path, tiny_base: Path) -> Path:
    (outside / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (outside / "models").mkdir()
    (outside / "models" / "base").symlink_to(tiny_base)
    (outside / "data" / "held_out").mkdir(parents=True)
    return outside


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    return result.output + (str(result.exception) if result.exit_code else "")


def test_a_llama_2_7b_is_planned_for_16_gb_without_weights_or_network() -> None:
    shown = run("plan", "--model", "llama-2-7b", "--gpu", "16")
    rows = re.findall(r"^ (\w+), (LoRA|QLoRA|full) .*", shown, re.MULTILINE)
    assert rows == [
        (name, weights) for name in methods.OBJECTIVE_NAMES.values() for weights in methods.WEIGHTS_NAMES.values()
    ]
    assert re.search(r"SFT, QLoRA +4\.0 .* 40\.0 M +159\.9 MB", shown)
    assert re.search(r"SFT, full +27\.0 +27\.0 +53\.9 .* no +6\.74 B", shown)
    assert "QLoRA is the lightest that does the job for SFT (up to " in shown
    assert "unquantized, the base leaves too little room" in shown
    assert re.search(r"Training all weights would take 10\d\.\d+ GB or more: do not start there\.", shown)


def test_more_memory_makes_lora_the_lightest() -> None:
    shown = run("plan", "--model", "llama-2-7b", "--gpu", "80")
    assert "LoRA is the lightest that does the job for SFT (up to " in shown
    assert "QLoRA is the lightest" not in shown


def test_an_objective_that_does_not_fit_is_named_with_a_remedy() -> None:
    shown = run("plan", "--model", "llama-2-7b", "--gpu", "3", "--kind", "answers")
    assert "Nothing fits a GPU of 3 GB for SFT" in shown
    assert CliRunner().invoke(main, ["plan", "--model", "llama-2-7b", "--gpu", "3"]).exit_code == 1
    assert "Take a smaller model, or shorter sequences (--length)." in shown


@pytest.mark.parametrize(
    ("kind", "names"),
    [("answers", {"SFT"}), ("preferences", {"DPO", "reward", "RLHF"}), ("marks", {"KTO"}), ("scored", {"GRPO"})],
)
def test_the_labels_decide_the_objectives(kind: str, names: set[str]) -> None:
    shown = run("plan", "--model", "smollm2-135m", "--gpu", "8", "--kind", kind)
    assert set(re.findall(r"^ (\w+), ", shown, re.MULTILINE)) == names
    assert "tunesmith advise" not in shown


@pytest.mark.parametrize(
    ("kind", "verifier", "objectives"),
    [
        ("answers", None, ["sft"]),
        ("answers", "number", ["sft", "grpo"]),
        ("preferences", None, ["dpo", "reward", "rlhf"]),
        ("marks", "number", ["kto"]),
        ("scored", "number", ["grpo"]),
        ("scored", "vibes", []),
    ],
)
def test_rows_with_a_verifier_are_planned_for_what_they_train(kind: Any, verifier: str, objectives: list[str]) -> None:
    assert methods.objectives_of_rows(kind, verifier) == objectives


def test_a_narrow_terminal_gets_every_column_in_two_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("plan", "--model", "llama-2-7b", "--gpu", "16")
    assert "…" not in shown
    parts = [heading for part, heading in plan.PARTS.items() if part != "communication"]  # which one GPU has none of
    assert all(head in shown for head in (*parts, "peak", "fits", "trains", "on disk"))


def test_a_named_card_gets_tokens_a_second_and_a_size_alone_says_what_to_name() -> None:
    shown = run("plan", "--model", "llama-3.1-8b", "--gpu", "h100", "--kind", "answers")
    assert "H100: 80.00 GB" in shown
    assert re.search(r"SFT, LoRA .* no +\d+ × 1,024 +41\.9 M +167\.8 MB +1[0-9],\d{3}\b", shown)
    assert "from the rates of H100 (data sheet)" in shown
    assert "tok/s" not in run("plan", "--model", "llama-2-7b", "--gpu", "16").split("no speed")[0]


def test_an_unknown_card_is_an_error_with_the_nearest_name() -> None:
    shown = run("plan", "--model", "llama-2-7b", "--gpu", "h10")
    assert "no card of that name is known; did you mean 'h100'?" in shown
    assert "not a size of memory" in run("plan", "--model", "llama-2-7b", "--gpu", "0")


def test_several_gpus_are_planned_with_what_must_be_sharded() -> None:
    shown = run("plan", "--model", "llama-3.1-70b", "--gpu", "80", "--gpus", "8", "--kind", "answers")
    assert "8 × GPU of 80 GB: 80.00 GB each" in shown
    assert re.search(r"SFT, LoRA +18\.5 .* yes +yes +\d+ × 1,024", shown)
    assert re.search(r"SFT, QLoRA +40\.3 .* no +yes +\d+ × 1,024", shown)
    assert "LoRA, sharded over 8 GPUs, is the lightest that does the job for SFT" in shown
    assert re.search(r"of each GPU or more, and 32 such GPUs: do not start there", shown)


def test_several_named_cards_get_the_tokens_of_all_and_their_link() -> None:
    shown = run("plan", "--model", "llama-3.1-70b", "--gpu", "h100", "--gpus", "8", "--kind", "answers")
    assert re.search(r"SFT, LoRA .* 828\.4 MB +[78],\d{3}\b", shown)
    assert re.search(r"78% of\s+450\s+GB/s", shown)


def test_gpus_of_a_machine_without_one_must_be_named() -> None:
    shown = run("plan", "--model", "llama-2-7b", "--gpus", "2")
    assert "--gpus 2: this machine has no GPU" in shown


def test_layers_are_recomputed_only_where_a_method_does_not_fit_otherwise() -> None:
    for gpu, answer in (("24", "yes"), ("80", "no")):
        shown = run("plan", "--model", "llama-2-7b", "--gpu", gpu, "--kind", "answers")
        assert re.search(rf"SFT, LoRA .* {answer} +\d+ × 1,024", shown)


def test_the_entries_of_a_project_are_planned_where_their_rows_are_ready(project: Path) -> None:
    pairs = [{"id": str(number), **SIDES} for number in range(6)]
    ready_rows.write_jsonl(project / "data" / "ready" / "demo_pairs" / "train.jsonl", pairs)
    shown = run("plan", "--gpu", "h100", "--entries")
    assert re.search(r"^ dpo\.dpo +8 +1 +no +\d\.\d +[\d,]+ +\d+s *$", shown, re.MULTILINE)
    assert "no ready rows yet, which `dvc repro` prepares: sft.sft-lora, sft.sft-qlora, sft.sft-full" in shown


def test_a_config_is_enough(tiny_folder: Path) -> None:
    shown = run("plan", "--model", str(tiny_folder / "config.json"), "--gpu", "1", "--length", "64", "--rank", "2")
    assert "64 tokens, LoRA of rank 2" in shown


def test_sequences_are_no_longer_than_the_model_reads(tiny_folder: Path) -> None:
    assert "512 tokens" in run("plan", "--model", str(tiny_folder), "--gpu", "1", "--length", "4096")


def test_without_a_model_or_a_base_the_error_says_what_to_name() -> None:
    shown = run("plan")
    assert "error: no model is named, and models/base does not exist here" in shown
    assert "llama-2-7b" in shown


def test_in_a_project_its_base_and_params_are_planned(project: Path) -> None:
    shown = run("plan")
    assert shown.startswith("models/base: ")
    assert "256 tokens, LoRA of rank 16" in shown


def test_advice_ends_with_the_plan_where_the_base_is(project: Path) -> None:
    shown = run("advise", str(data.write(project / "rows.jsonl", SUMS)))
    assert "to train models/base on them, with " in shown
    assert "LoRA is the lightest that does the job for SFT (up to " in shown
    assert ", GRPO (up to " in shown  # its answers can be verified
    assert "`tunesmith plan --kind answers` shows every method" in shown


def test_advice_without_a_base_points_to_the_plan_and_imports_no_torch(outside: Path) -> None:
    path = data.write(outside / "rows.jsonl", SUMS)
    program = (
        "import sys; from tunesmith.cli import advise; advise.run(sys.argv[1], write=False, name=None); "
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", program, str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "`tunesmith plan --kind answers --model NAME` predicts what" in shown


def test_a_container_s_limit_is_the_memory_there_is(outside: Path) -> None:
    limit = outside / "memory.max"
    physical = hardware.ram(outside / "none")
    limit.write_text("max\n")
    assert hardware.ram(limit) == physical
    limit.write_text("1000000\n")
    assert hardware.ram(limit) == 1_000_000


def test_a_method_that_bears_its_batch_is_chosen_before_one_that_is_lighter() -> None:
    shape, machine = model_shape.read("smollm2-135m"), hardware.Hardware("here", CPU, 10**12)
    [group] = methods.survey(shape, ["sft"], machine, length=256, rank=8)
    lora, qlora, full = group
    assert methods.lightest(group) is lora
    assert methods.lightest([replace(lora, budget=0), qlora, full]) is qlora
    smaller = methods.lightest([replace(method, budget=0) for method in group])
    assert smaller is not None
    assert smaller.workload.weights == "lora"
    assert methods.lightest([replace(method, budget=0, largest=None) for method in group]) is None


@pytest.mark.parametrize(("init", "rank"), [("default", 4), ("pissa", 8)])
def test_a_training_from_an_adapter_is_planned_with_the_one_that_will_be_saved(init: str, rank: int) -> None:
    """PiSSA's is saved at twice its rank, once, however many trainings follow."""
    first = Sft(dataset="d", lora={"rank": 4, "init": init})
    second, third = (Dpo(dataset="d", start=start, lora={"rank": 2, "init": init}) for start in ("first", "second"))
    trainings: Any = {"first": ("sft", first), "second": ("dpo", second), "third": ("dpo", third)}
    ranks = [plan_entries._adapter(entry, trainings) for _, entry in trainings.values()]
    assert [adapter and adapter.r for adapter in ranks] == [4, rank, rank]
