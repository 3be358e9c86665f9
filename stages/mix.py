"""Make one data set of the rows of several, in the shares that params.yaml gives them.

    python -m stages.mix MIXTURE

reads   data/ready/<dataset>/{train,validation,test}.jsonl of the data sets that it names, as their reports in
        reports/data describe them, and the images of these rows; models/base (not its weights)
params  mixtures.<mixture>
writes  data/ready/<mixture>/{train,validation,test}.jsonl and, of rows with images, images/;
        reports/mixtures/<mixture>.json

Weights share out training rows; rows for validation and test are those of all its data sets, each once.
"""

import json
import sys

from tunesmith.core import files, layout, manifest, ready_rows
from tunesmith.core.console import run
from tunesmith.core.errors import DataError
from tunesmith.core.params import load, resolved
from tunesmith.core.ready_rows import Conversation, Row
from tunesmith.data import splits
from tunesmith.data.images import checks, leaks, parts, store
from tunesmith.data.mixture import Given, Mixture, mix
from tunesmith.models.base import base_tokenizer

BATCH = 1000
"""Rows whose tokens are counted at once."""


def main(name: str) -> str:
    mixture = load(Mixture, f"mixtures.{name}", path=resolved("mix", name))
    rows = {dataset: {split: read(dataset, split) for split in splits.SPLITS} for dataset in mixture.names}
    judged = {splits.prompt_key(row["prompt"]) for row in (*held_out(rows, "validation"), *held_out(rows, "test"))}
    seen = shown([*held_out(rows, "validation"), *held_out(rows, "test")])
    training = {}
    for dataset, of_split in rows.items():
        asked = [row for row in of_split["train"] if splits.prompt_key(row["prompt"]) not in judged]
        leaking = leaks.find(seen, shown(asked))
        training[dataset] = [row for position, row in enumerate(asked) if position not in leaking]
    for dataset, kept in training.items():
        if not kept:
            raise DataError(
                f"mixtures.{name}: data.{dataset} has no training row whose prompt or image no other data set tests on",
                fix="take it out of the mixture, or give its train split rows in data.<dataset>.splits and .limit",
            )
    mixed, taken = mix(mixture, training, {dataset: lengths(kept) for dataset, kept in training.items()})
    given: dict[str, Given] = {
        dataset: {
            "rows": count,
            "tokens": tokens,
            "epochs": round(epochs, 4),
            "available": len(training[dataset]),
            "left_out": len(rows[dataset]["train"]) - len(training[dataset]),
        }
        for dataset, (count, tokens, epochs) in taken.items()
    }
    with files.new_folder(layout.READY / name) as folder:
        ready_rows.write_jsonl(folder / "train.jsonl", mixed)
        for split in ("validation", "test"):
            ready_rows.write_jsonl(folder / f"{split}.jsonl", held_out(rows, split))
        store.gather(folder, [layout.READY / dataset for dataset in mixture.names])
    report = {"mixture": name, **mixture.model_dump(mode="json"), "given": given}
    ready_rows.write_json(layout.MIXTURE_REPORTS / f"{name}.json", report)
    parts = ", ".join(f"{dataset} {part['tokens']:,} ({part['epochs']:g} epochs)" for dataset, part in given.items())
    return f"{layout.READY / name}: {len(mixed):,} rows; tokens: {parts}"


def read(dataset: str, split: str) -> list[Row]:
    """The rows of a split. Raises DataError where its file is not the one that the data set's report describes."""
    path, report = layout.split(dataset, split), layout.DATA_REPORTS / f"{dataset}.json"
    try:
        described = json.loads(report.read_text())["digests"][split]
        if manifest.file_digest(path) == described:
            return ready_rows.read(path, may_be_empty=True)
    except FileNotFoundError:
        pass
    raise DataError(f"{path}: not the file that {report} describes", fix=f"`dvc repro prepare_data@{dataset}`")


def held_out(rows: dict[str, dict[str, list[Row]]], split: str) -> list[Row]:
    """The rows of a split of all data sets; of the same row in several, the first."""
    return list({row["id"]: row | {"dataset": name} for name in reversed(rows) for row in rows[name][split]}.values())


def shown(rows: list[Row]) -> list[leaks.Shown]:
    """The images and the group of each row."""
    return [([part["image"] for part in parts.images(row)], splits.group_key(row["prompt"], None)) for row in rows]


def lengths(rows: list[Row]) -> list[int]:
    """The tokens of each row: of the prompt with its longest answer."""
    base = base_tokenizer.lengths(base_tokenizer.open_tokenizer(layout.BASE), layout.BASE)
    counts: list[int] = []
    for start in range(0, len(rows), BATCH):
        block = rows[start : start + BATCH]
        answers = [[row[part] for part in ("completion", "chosen", "rejected") if part in row] or [[]] for row in block]
        prompts, completions = base.count(
            [
                Conversation(parts.texts_alone(row["prompt"]), one, row.get("tools"))
                for row, each in zip(block, answers, strict=True)
                for one in each
            ]
        )
        whole = iter(map(sum, zip(prompts, completions, strict=True)))
        images = checks.tokens(block, base)
        counts += [max(next(whole) for _ in each) + of_row for each, of_row in zip(answers, images, strict=True)]
    return counts


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
