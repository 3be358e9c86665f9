"""Contamination: rows that are also in an evaluation set, which must not train the model that the set judges."""

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from tunesmith.core.errors import DataError
from tunesmith.core.params import Section
from tunesmith.core.ready_rows import Message
from tunesmith.data import layouts, readers, splits
from tunesmith.data.columns import cells, prompts
from tunesmith.data.records import Fields, Record, RowError
from tunesmith.data.splits import Share, normalise

GRAM = 8
"""Words of an n-gram."""
Gram = tuple[str, ...]
COMMON = 5
"""An 8-gram of more evaluation prompts than this belongs to a shared instruction and is not compared."""


class HeldOut(Section):
    path: Path = Path("data/held_out")
    """A file of evaluation rows, or a folder of such files, in data/held_out; a data set is not compared with its own
    files."""
    overlap: Share = 0.7
    """Share of the 8-grams of words of an evaluation prompt from which a row counts as that prompt; 0.7 in PaLM
    (Chowdhery et al. 2022, section 8)."""


class EvaluationSets:
    """Evaluation prompts that rows are compared with."""

    def __init__(self, held_out: HeldOut, own: Collection[Path]) -> None:
        """Read every file at ``held_out.path`` except ``own``. Raises DataError for a file that cannot be read."""
        self._overlap = held_out.overlap
        self._exact: dict[int, str] = {}
        self._grams: dict[Gram, list[int]] = {}
        self._prompts: list[str] = []
        themselves = {file.resolve() for file in own}
        for file in _files(held_out.path):
            if file.resolve() not in themselves:
                self._add(file)
        self._grams = {gram: prompts for gram, prompts in self._grams.items() if len(prompts) <= COMMON}
        self._counts = Counter(prompt for prompts in self._grams.values() for prompt in prompts)

    def __len__(self) -> int:
        return len(self._exact)

    def match(self, key: int, text: str) -> str | None:
        """Return why a row, by its prompt key and normalised text, counts as an evaluation row; None if it does not.

        The reason is the name of the check, a colon, and the file and line of the evaluation row.
        """
        if key in self._exact:
            return f"in an evaluation set: the prompt of {self._exact[key]}"
        grams = set(_grams(text))
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
            for gram in set(_grams(normalise(" ".join(message["content"] for message in prompt)))):
                self._grams.setdefault(gram, []).append(len(self._prompts))
            self._prompts.append(where)
        if len(self) == before:
            raise DataError(
                f"{file}: no evaluation prompt was recognised, so no row can be compared with this file",
                fix="give it a column `prompt` or `question`, or take it out of the folder of held-out files",
            )


def _prompt(fields: Fields) -> list[Message] | None:
    try:
        fields, _ = cells.read(fields)
        layout = layouts.recognise(fields)
        if layout is None:
            return None
        if layout.kind is not None:
            return [message for message in layout.to_row(fields)["prompt"] if message["role"] != "system"]
        return prompts.column_messages(fields, layout.columns[0], "user") if layout.columns else None
    except RowError:
        return None


def _grams(text: str) -> Iterator[Gram]:
    words = text.split()
    return zip(*(words[start:] for start in range(GRAM)), strict=False)


def _files(path: Path) -> tuple[Path, ...]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", fix="correct data.<dataset>.held_out.path in params.yaml")
    return readers.below(path).paths if path.is_dir() else (path,)
