"""Rows that are also in an evaluation set: what judges a model must not have trained it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.core.errors import DataError
from tunesmith.core.params import Section
from tunesmith.data import conversations, layouts, readers, splits
from tunesmith.data.chat_formats import RowError
from tunesmith.data.records import Record
from tunesmith.data.splits import Share, normal

GRAM = 8
"""Words."""
Gram = tuple[str, ...]
COMMON = 5
"""An 8-gram of more evaluation prompts than these is their instruction, not their question, and tells nothing."""


class HeldOut(Section):
    path: Path = Path("data/held_out")
    """A file of evaluation rows, or a folder of such files, in data/held_out; a dataset is not compared with its own
    file."""
    overlap: Share = 0.7
    """A row is one of them when it holds this share of the 8-grams of words of an evaluation prompt; 0.7 in PaLM
    (Chowdhery et al. 2022, section 8)."""


class EvaluationSets:
    """The prompts that rows are compared with."""

    def __init__(self, held_out: HeldOut, own: Path) -> None:
        """Read every file at ``held_out.path`` but ``own``. Raises DataError for one that cannot be read."""
        self._overlap = held_out.overlap
        self._exact: dict[int, str] = {}
        self._grams: dict[Gram, list[int]] = {}
        self._prompts: list[str] = []
        for file in _files(held_out.path):
            if file.resolve() != own.resolve():
                self._add(file)
        self._grams = {gram: prompts for gram, prompts in self._grams.items() if len(prompts) <= COMMON}
        self._counts = Counter(prompt for prompts in self._grams.values() for prompt in prompts)

    def __len__(self) -> int:
        return len(self._exact)

    def find(self, key: int, text: str) -> str | None:
        """Why the row with this prompt key and this text in normal form is in an evaluation set, or None.

        The name of a check, a colon, and which row of which file.
        """
        if key in self._exact:
            return f"in an evaluation set: the prompt of {self._exact[key]}"
        words = text.split()
        grams = set(_grams(words))
        if self._grams.keys().isdisjoint(grams):
            return None
        hits = Counter(prompt for gram in grams for prompt in self._grams.get(gram, ()))
        prompt, shared = max(hits.items(), key=lambda item: item[1] / self._counts[item[0]])
        where, count = self._prompts[prompt], self._counts[prompt]
        if shared < self._overlap * count:
            return None
        return f"overlaps an evaluation set: {shared} of {count} 8-grams of {where}"

    def _add(self, file: Path) -> None:
        before = len(self)
        for record in readers.read(file):
            prompt = _prompt(record.fields) if isinstance(record, Record) else None
            if prompt is None:
                continue
            key, where = splits.prompt_key(prompt), f"{file}:{record.line}"
            if key in self._exact:
                continue
            self._exact[key] = where
            for gram in set(_grams(normal(" ".join(message["content"] for message in prompt)).split())):
                self._grams.setdefault(gram, []).append(len(self._prompts))
            self._prompts.append(where)
        if len(self) == before:
            raise DataError(
                f"{file}: no evaluation prompt was recognised in it, so nothing could be compared with it",
                fix="give it a column `prompt` or `question`, or take it out of the folder of held-out files",
            )


def _prompt(fields: dict[str, Any]) -> list[dict[str, Any]] | None:
    layout = layouts.recognise(fields)
    try:
        if layout is None:
            return None
        if layout.to_row is not None:
            return [message for message in layout.to_row(fields)["prompt"] if message["role"] != "system"]
        return conversations.messages(fields, layout.columns[0], "user") if layout.columns else None
    except RowError:
        return None


def _grams(words: list[str]) -> Iterator[Gram]:
    return zip(*(words[start:] for start in range(GRAM)), strict=False)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and readers.has_known_format(file))
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", fix="correct data.<dataset>.held_out.path in params.yaml")
    return [path]
