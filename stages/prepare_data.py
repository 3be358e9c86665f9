"""Make ready rows of one data set: recognise and check every row, set bad ones aside, split by hash.

    python -m stages.prepare_data DATASET

reads   the file or folder at params data.<dataset>.path, data/held_out, models/base (not its weights)
params  data.<dataset>
writes  data/ready/<dataset>/{train,validation,test}.jsonl and, of rows with images, images/,
        data/quarantine/<dataset>.jsonl, reports/data/<dataset>.{json,html}
"""

import sys

from tunesmith.core import files, layout, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load, resolved
from tunesmith.data import prepare, readers
from tunesmith.data.dataset import Dataset
from tunesmith.data.images import store
from tunesmith.data.personal.rows import quarantine
from tunesmith.models import chat_template
from tunesmith.models.base import base_tokenizer
from tunesmith.reports.data_set import data_page, data_report, data_rows


def main(name: str) -> str:
    dataset = load(Dataset, f"data.{name}", path=resolved("prepare_data", name))
    tokenizer = base_tokenizer.open_tokenizer(layout.BASE)
    lengths = base_tokenizer.lengths(tokenizer, layout.BASE)
    with (
        files.new_folder(layout.READY / name) as folder,
        prepare.check_files(
            dataset,
            readers.find(dataset.path, dataset.files),
            special_tokens=chat_template.special_tokens(tokenizer),
            lengths=lengths,
            scratch=folder,
            store=store.new(folder),
            fork=True,  # no thread runs here yet
        ) as rows,
    ):
        selected = prepare.select(rows, dataset)
        written = {
            split: prepare.write(folder / f"{split}.jsonl", rows, positions) for split, positions in selected.items()
        }
        images = store.keep(folder)
        report = data_report.report(name, dataset, rows, written, lengths)
        if images:
            tokenizer = base_tokenizer.open_tokenizer(layout.BASE, images=[folder / layout.IMAGES])
        page_rows = data_rows.page_rows(dataset, rows, selected, tokenizer, folder)
        ready_rows.write_jsonl(layout.QUARANTINE / f"{name}.jsonl", quarantine(rows.problems, dataset))
    ready_rows.write_json(layout.DATA_REPORTS / f"{name}.json", report)
    files.write_text(layout.DATA_REPORTS / f"{name}.html", data_page.page(report, page_rows))
    counts = ", ".join(f"{split.rows:,} {name}" for name, split in written.items())
    aside = f"; {len(rows.problems):,} set aside in {layout.QUARANTINE / name}.jsonl" if rows.problems else ""
    shown = f"; {images:,} images" if images else ""
    within = f" in {len(rows.files.paths):,} files" if len(rows.files.paths) > 1 else ""
    ignored = f"; not read: {rows.files.listed(rows.files.ignored)}" if rows.files.ignored else ""
    return f"{layout.READY / name}: {counts} of {rows.total:,} rows{within}{shown}{aside}{ignored}"


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
