"""Ask the model of a hosted service the prompts of all suites with answers, once: a baseline for the gate.

reads   data/ready/<dataset>/{test.jsonl,images} of every suite of kind answers
params  baseline, and of these suites dataset, limit and max_new_tokens
writes  data/baseline/answers.jsonl, empty where params name no baseline

A prompt that was asked before, with the same params, keeps its answer: it is paid for once. The file that is replaced
holds these answers, and data/baseline/asked.jsonl those of a run that was cut short.
"""

from tunesmith.core import files, layout, ready_rows
from tunesmith.core.console import run
from tunesmith.core.params import load, read, resolved
from tunesmith.evaluation.endpoint import answers
from tunesmith.evaluation.endpoint.answers import Asked
from tunesmith.evaluation.endpoint.settings import Baseline

PARAMS = resolved("baseline")
JOURNAL = layout.BASELINE.with_name("asked.jsonl")


def main() -> str:
    if "baseline" not in read(PARAMS):
        files.write_bytes(layout.BASELINE, b"\n")  # DVC warns of an empty file
        return f"{layout.BASELINE}: params.yaml names no baseline"
    settings = load(Baseline, "baseline", path=PARAMS)
    suites = {
        name: (asked, ready_rows.read(layout.split(asked.dataset, "test"))[: asked.limit])
        for name, asked in load(dict[str, Asked], "suites", path=PARAMS).items()
    }
    with files.only_writer(layout.BASELINE):
        kept = [*answers.read(layout.BASELINE), *answers.read(JOURNAL)]
        found, cost = answers.ask_all(settings, suites, kept, JOURNAL)
        ready_rows.write_jsonl(layout.BASELINE, found)
        JOURNAL.unlink(missing_ok=True)
    refused = sum(answer["refused"] for answer in found)
    return f"{layout.BASELINE}: {len(found):,} answers of {settings.model}, {refused:,} refused; {cost}"


if __name__ == "__main__":
    run(main)
