"""`tunesmith plan --entries`: how each training of params.yaml would run, decided from its ready rows as it decides."""

from collections.abc import Mapping
from statistics import fmean

from peft import LoraConfig
from rich import box
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from tunesmith.core import formatting, layout, ready_rows
from tunesmith.core.params import Objective
from tunesmith.models import chat, device, preference_pairs
from tunesmith.models.base import base_tokenizer
from tunesmith.models.device import Profile
from tunesmith.models.loading import ADAPTER
from tunesmith.models.settings import FROM_WEIGHTS
from tunesmith.planning import fit as planned
from tunesmith.planning import speed
from tunesmith.planning.hardware import Hardware
from tunesmith.planning.model_shape import Shape
from tunesmith.planning.speed import Rates
from tunesmith.project.document import Document
from tunesmith.training import fit
from tunesmith.training.entries.common import Continued, Entry
from tunesmith.training.entries.dpo import Dpo
from tunesmith.training.entries.kto import Kto
from tunesmith.training.entries.online import Online
from tunesmith.training.entries.reward import Reward
from tunesmith.training.entries.sft import Sft
from tunesmith.training.fit import Batchable, Fit
from tunesmith.training.objectives import kto, pair_batches, rollouts, sft

LEGEND = (
    "batch: examples that go through the model at once. a step: batches of them. recompute: whether layers are "
    "computed again in the backward pass. takes: the steps alone, on all rows and epochs."
)


def show(console: Console, document: Document, shape: Shape, machine: Hardware, rates: Rates | None) -> bool:
    """Print a table of the trainings whose rows are ready, and the names of the others; return whether all fit."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    grid.add_column("entry", no_wrap=True)
    for heading in ["batch", "a step", "recompute", "peak GB", *(["tok/s", "takes"] if rates else [])]:
        grid.add_column(heading, justify="right", no_wrap=True)
    unready, all_fit = [], True
    for name, (objective, entry) in document.trainings.items():
        if not layout.split(entry.dataset, "train").exists():
            unready.append(f"{objective}.{name}")
            continue
        chosen, tokens = plan(name, document.trainings, shape, machine)
        work = chosen.workload
        fits = planned.fits(shape, work, machine.budget)
        all_fit = all_fit and fits
        cells = [str(work.batch), str(max(work.accumulation, work.rollouts // work.batch))]
        cells += ["yes" if work.machine.checkpointing else "no", f"{chosen.predicted / 1e9:.1f}"]
        if rates:
            per_second = speed.predict(shape, work, rates).tokens_per_second
            cells += [f"{per_second:,.0f}", formatting.seconds(tokens / per_second)]
        grid.add_row(f"{objective}.{name}", *cells, style="" if fits else "dim")
    console.print(grid)
    console.print(LEGEND, style="dim")
    if unready:
        console.print(f"no ready rows yet, which `dvc repro` prepares: {', '.join(unready)}")
    return all_fit


def plan(
    name: str, trainings: Mapping[str, tuple[Objective, Entry]], shape: Shape, machine: Hardware
) -> tuple[Fit[Entry], float]:
    """How the training ``name`` would run on ``machine``, and the tokens that it goes over."""
    objective, entry = trainings[name]
    tokenizer = base_tokenizer.open_tokenizer(layout.BASE, images=[layout.images(entry.dataset)])
    batchable, tokens = _examples(entry, tokenizer, f"{objective}.{name}")
    adapter = _adapter(entry, trainings)
    return fit.decide(objective, entry, adapter, _profile(machine), shape, machine.budget, batchable), tokens


def _profile(machine: Hardware) -> Profile:
    """The profile of a training on ``machine``."""
    here = device.detect()
    return here if machine.machine.device == here.device else Profile("cuda", machine.name, device.GPU_DTYPE)


def _examples(entry: Entry, tokenizer: PreTrainedTokenizerBase, section: str) -> tuple[Batchable, float]:
    """What an entry's batches are made of, and the tokens of the whole training."""
    file = layout.split(entry.dataset, "train")
    rows = ready_rows.read(file)
    match entry:
        case Sft():
            examples = sft.encode(tokenizer, rows, entry, section, file)
            batchable = sft.batchable(examples, entry, sft.sequences(examples, entry, packing=True))
            return batchable, sum(sft.tokens(rows, examples, entry))
        case Dpo() | Reward():
            pairs = preference_pairs.encode(tokenizer, rows, entry.max_length, section, file)
            return pair_batches.batchable(pairs), entry.epochs * sum(pair.tokens for pair in pairs)
        case Kto():
            marks = kto.encode(tokenizer, rows, entry.max_length, section, file)
            return kto.batchable(marks), entry.epochs * sum(mark.length for mark in marks)
        case Online():
            lengths = [len(chat.encode_prompt(tokenizer, row["prompt"], row.get("tools"))) for row in rows]
            tokens = entry.steps * entry.prompts * entry.group * (fmean(lengths) + entry.max_new_tokens)
            return rollouts.batchable(entry, max(lengths), rollouts.image_tokens(tokenizer, rows)), tokens
    raise TypeError(type(entry))


def _adapter(
    entry: Entry, trainings: Mapping[str, tuple[Objective, Entry]], *, saved: bool = False
) -> LoraConfig | None:
    """The adapter that an entry trains: that of the model it starts from, if that one has an adapter, or a new one.

    saved: as its model folder will have it, at twice the rank where its initial values are taken out of the weights.
    """
    if entry.weights == "full":
        return None
    if isinstance(entry, Continued) and entry.start in trainings and trainings[entry.start][1].weights != "full":
        if (layout.MODELS / entry.start / ADAPTER).exists():
            return LoraConfig.from_pretrained(str(layout.MODELS / entry.start))
        return _adapter(trainings[entry.start][1], trainings, saved=True)
    lora = entry.lora
    rank = 2 * lora.rank if saved and lora.init in FROM_WEIGHTS else lora.rank
    whole = ["embed_tokens"] if lora.embeddings else None
    return LoraConfig(r=rank, target_modules=lora.targets, use_dora=lora.dora, modules_to_save=whole)
