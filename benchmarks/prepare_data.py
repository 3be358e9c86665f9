"""The speed of checking rows, against `datasets`, and of the whole stage, against the tokenizer alone.

    python -m benchmarks.prepare_data checks [--rows 10000 100000 1000000]
    python -m benchmarks.prepare_data stage --base models/base [--rows 50000] [--file FILE] [--tools]

`checks`: the same checks of the same rows, by Tunesmith and by `datasets.load_dataset("json")` with a batched `map`
and `filter` on two processes, each in a process of its own, alternating; tokens and MinHash are left out on both sides.
Both must keep the same number of rows. Tunesmith's time includes making, splitting and writing the ready rows; that of
`datasets` does not. `stage`: the whole of `prepare_data`, tokens and MinHash included, against the tokenizer's batch
call over the same rendered rows; with `--tools`, of chats that call tools, for a base (or `--chat-template FILE`) whose
template writes them. Medians, with the peak of memory over all processes (PSS) and the load.
"""

import argparse
import contextlib
import gc
import importlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

TEXT = "a box of five red apples costs two coins how many coins do ten such boxes cost when a third is sold"
WORDS = TEXT.split()
BAD = 0.01
SECRET = "AKIAABCDEFGHIJKLMNOP"
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


def make_rows(path: Path, rows: int) -> None:
    """Questions and worked answers about as long as GSM8K's (550 bytes a line), one in a hundred bad."""
    rng = random.Random(rows)
    words = [*WORDS, *(first + second for first in WORDS for second in WORDS)]
    with path.open("w") as file:
        for number in range(rows):
            question = " ".join(rng.choices(words, k=50)) + f" in town {number}?"
            answer = " ".join(rng.choices(words, k=55)) + f"\n#### {rng.randrange(1000)}"
            row: dict[str, Any] = {"question": question, "answer": answer}
            if rng.random() < BAD:
                spoil(row, rng)
            file.write(json.dumps(row) + "\n")


def make_chats(path: Path, rows: int) -> None:
    """Chats of four turns with two tools, of which one is called, in OpenAI's form (900 bytes a line)."""
    rng = random.Random(rows)
    words = [*WORDS, *(first + second for first in WORDS for second in WORDS)]

    def said(count: int) -> str:
        return " ".join(rng.choices(words, k=count))

    parameters = {"type": "object", "properties": {"city": {"type": "string"}, "count": {"type": "integer"}}}
    with path.open("w") as file:
        for number in range(rows):
            tools = [
                {"type": "function", "function": {"name": name, "description": said(8), "parameters": parameters}}
                for name in ("price", "stock")
            ]
            arguments = json.dumps({"city": said(2), "count": number})
            call = {"id": "1", "type": "function", "function": {"name": "price", "arguments": arguments}}
            turns = [
                {"role": "user", "content": said(12)},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": said(10)},
                {"role": "assistant", "content": f"{said(12)}\n#### {number}"},
            ]
            file.write(json.dumps({"messages": turns, "tools": tools}) + "\n")


def spoil(row: dict[str, Any], rng: random.Random) -> None:
    match rng.randrange(6):
        case 0:
            row["answer"] = "  "
        case 1:
            row["question"] = ""
        case 2:
            row["answer"] += " \u0007"
        case 3:
            row["answer"] = f"{SPECIAL[1]} {row['answer']}"
        case 4:
            row["answer"] += f" {SECRET}"
        case 5:
            row["answer"] = "no number"


def ours(path: Path, out: Path) -> int:
    """Check every row, write the ready rows of all splits, and return the number of rows kept."""
    from tunesmith.data import prepare, readers

    dataset, files = our_dataset(path, near_duplicates=None), readers.find(path)
    with prepare.check_files(dataset, files, special_tokens=SPECIAL, lengths=None, scratch=out, fork=True) as checked:
        for name, positions in prepare.select(checked, dataset).items():
            prepare.write(out / name, checked, positions)
        return len(checked.index)


def our_dataset(path: Path, near_duplicates: float | None) -> Any:
    from tunesmith.data.dataset import Dataset

    return Dataset.model_validate({
        "path": path, "kind": "answers", "columns": None, "system": None, "verifier": "number", "one_answer": True,
        "near_duplicates": near_duplicates, "held_out": {"path": path, "overlap": 0.7}, "max_length": None,
        "splits": {"validation": 0.05, "test": 0.1}, "limit": {"train": None, "validation": None, "test": None},
        "max_bad_share": 0.1,
    })  # fmt: skip


def peers(path: Path, out: Path) -> int:
    """Make the same checks in `datasets` by a batched map and filters; no ready rows are made or written."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(out / "cache"))
    rows = rows.map(peer_check, batched=True, num_proc=2)
    rows = rows.filter(peer_is_good, batched=True, num_proc=2, input_columns=["reason"])
    seen: set[str] = set()
    rows = rows.filter(lambda ids: [not (row in seen or seen.add(row)) for row in ids], batched=True,
                       input_columns=["id"])  # fmt: skip
    answers: dict[str, set[str]] = {}
    for batch in rows.select_columns(["prompt_key", "answer_key"]).iter(10_000):
        for prompt, answer in zip(batch["prompt_key"], batch["answer_key"], strict=True):
            answers.setdefault(prompt, set()).add(answer)
    several = {prompt for prompt, texts in answers.items() if len(texts) > 1}
    rows = rows.filter(lambda keys: [key not in several for key in keys], batched=True, input_columns=["prompt_key"])
    return len(rows)


CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
TOKENS = re.compile("|".join(map(re.escape, SPECIAL)))


def peer_check(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    import hashlib
    import unicodedata

    from tunesmith.data.text_scan import SECRETS
    from tunesmith.verifiers import number

    secrets = re.compile("|".join(f"(?:{pattern})" for pattern in SECRETS.values()), re.ASCII)

    def normal(text: str) -> str:
        return " ".join(unicodedata.normalize("NFKC", text).casefold().split())

    def reason(question: Any, answer: Any) -> str:
        if question is None or answer is None:
            return "missing field"
        if not isinstance(question, str) or not isinstance(answer, str):
            return "wrong type"
        if not question.strip() or not answer.strip():
            return "empty"
        for text in (question, answer):
            if CONTROL.search(text):
                return "control character"
            if TOKENS.search(text):
                return "special token"
            if secrets.search(text):
                return "secret"
        return "" if number.verify(answer, {"reference": answer}).score == 1 else "answer not right by its own verifier"

    columns: dict[str, list[Any]] = {name: [] for name in PEER_COLUMNS}
    for question, answer in zip(batch["question"], batch["answer"], strict=True):
        key = hashlib.sha256(normal(f"user {question}").encode()).digest()[:8]
        columns["id"].append(hashlib.sha256(f"{question}\n{answer}".encode()).hexdigest()[:16])
        columns["prompt_key"].append(key.hex())
        columns["answer_key"].append(str(number.final_number(answer or "")))
        columns["reason"].append(reason(question, answer))
    return columns


PEER_COLUMNS = ("id", "prompt_key", "answer_key", "reason")


def peer_is_good(reasons: list[str]) -> list[bool]:
    return [not reason for reason in reasons]


SIDES: dict[str, Callable[[Path, Path], int]] = {"tunesmith": ours, "datasets": peers}


def measure(side: str, path: Path) -> dict[str, float]:
    """Run one side in a process of its own: seconds of its work without imports, peak of memory, rows kept."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.prepare_data", "side", side, str(path), out]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": out}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        peak = Peak(process.pid)
        output, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(errors)
        return {**json.loads(output.splitlines()[-1]), "peak": peak.stop()}


class Peak:
    """The peak memory of a process and its children, sampled (PSS: shared pages are counted once)."""

    def __init__(self, pid: int) -> None:
        self._process, self._most, self._over = psutil.Process(pid), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            held = 0
            try:
                for process in (self._process, *self._process.children(recursive=True)):
                    held += process.memory_full_info().pss
            except psutil.Error:
                continue
            self._most = max(self._most, held)


def checks(counts: list[int], repeats: int) -> None:
    print(f"load average at the start: {os.getloadavg()[0]:.2f}, {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as folder:
        for rows in counts:
            path = Path(folder) / "rows.jsonl"
            make_rows(path, rows)
            runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
            for _ in range(repeats if rows < 10**6 else 1):
                for side in SIDES:
                    runs[side].append(measure(side, path))
            kept = {side: {run["kept"] for run in done} for side, done in runs.items()}
            assert len(set.union(*kept.values())) == 1, kept
            rates = {}
            for side, done in runs.items():
                seconds = statistics.median(run["seconds"] for run in done)
                rates[side] = rows / seconds
                peak = max(run["peak"] for run in done)
                print(
                    f"{rows:>9,} rows  {side:9}  {seconds:7.2f} s  {rates[side]:>9,.0f} rows/s  {peak / 2**20:5.0f} MiB"
                )
            print(f"{rows:>9,} rows  tunesmith is {rates['tunesmith'] / rates['datasets']:.2f} times as fast")
    print(f"load average at the end: {os.getloadavg()[0]:.2f}")


def stage(arguments: argparse.Namespace) -> None:
    """Time the stage's work, from reading to written splits, in turn with the tokenizer alone."""
    from tunesmith.core.ready_rows import Conversation
    from tunesmith.data import prepare, readers
    from tunesmith.data.records import Record, RowError
    from tunesmith.models import chat, chat_template
    from tunesmith.models.base import base_tokenizer

    tokenizer = base_tokenizer.open_tokenizer(arguments.base)
    if arguments.chat_template:
        tokenizer.chat_template = arguments.chat_template.read_text()
    lengths = base_tokenizer.lengths(tokenizer, arguments.base)
    special = chat_template.special_tokens(tokenizer)
    print(f"load average at the start: {os.getloadavg()[0]:.2f}, {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "rows.jsonl"
        if arguments.file is None:
            (make_chats if arguments.tools else make_rows)(path, arguments.rows)
        dataset = our_dataset(path, near_duplicates=0.8)
        conversations = []
        for record in readers.read(path):
            with contextlib.suppress(RowError):
                row = dataset.to_row(record.fields).row if isinstance(record, Record) else {}
                if row:
                    conversations.append(Conversation(row["prompt"], row["completion"], row.get("tools")))
        texts = [text for pair in chat.render_examples(tokenizer, conversations) for text in pair]
        gc.collect()
        gc.freeze()  # spares both sides the collection of this benchmark's own objects
        alone, whole = [], []
        for _ in range(arguments.repeats):
            began = time.perf_counter()
            tokenizer(texts, add_special_tokens=False)
            alone.append(len(conversations) / (time.perf_counter() - began))
            began = time.perf_counter()
            with prepare.check_files(
                dataset, readers.find(path), special_tokens=special, lengths=lengths, scratch=Path(folder), fork=True
            ) as checked:
                for name, positions in prepare.select(checked, dataset).items():
                    prepare.write(Path(folder) / name, checked, positions)
                whole.append(checked.total / (time.perf_counter() - began))
        print(f"tokenizer alone    {statistics.median(alone):>8,.0f} rows/s of {len(conversations):,} rows")
        print(f"the whole stage    {statistics.median(whole):>8,.0f} rows/s of {checked.total:,} rows")
        tokens = int(checked.index["tokens"].sum())
        print(f"                   {statistics.median(whole) * tokens / checked.total:>8,.0f} tokens/s of {tokens:,}")
        print(f"ratio              {statistics.median(whole) / statistics.median(alone):8.2f}")
    print(f"load average at the end: {os.getloadavg()[0]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("checks", "stage"):
        command = commands.add_parser(name)
        command.add_argument("--repeats", type=int, default=5)
        if name == "checks":
            command.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
        else:
            command.add_argument("--base", type=Path, default=Path("models/base"))
            command.add_argument("--rows", type=int, default=50_000)
            command.add_argument("--file", type=Path)
            command.add_argument("--tools", action="store_true")
            command.add_argument("--chat-template", type=Path)
    side = commands.add_parser("side")
    side.add_argument("side", choices=SIDES)
    side.add_argument("path", type=Path)
    side.add_argument("out", type=Path)
    arguments = parser.parse_args()
    match arguments.command:
        case "checks":
            checks(arguments.rows, arguments.repeats)
        case "stage":
            stage(arguments)
        case "side":
            importlib.import_module({"tunesmith": "tunesmith.data.prepare"}.get(arguments.side, arguments.side))
            began = time.perf_counter()
            kept = SIDES[arguments.side](arguments.path, arguments.out)
            print(json.dumps({"seconds": time.perf_counter() - began, "kept": kept}))


if __name__ == "__main__":
    main()
