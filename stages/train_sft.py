"""Teach the base model to answer as the rows do: supervised fine-tuning.

    python -m stages.train_sft lora

reads   models/base, data/ready/<sft.dataset>/{train,validation}.jsonl
params  sft, and the section named after the weights
writes  models/sft-<weights>
"""

import sys
import tempfile
from pathlib import Path

from transformers import set_seed

from tunesmith import device, journal, labels, lineage, models, ready, weights
from tunesmith.console import run
from tunesmith.params import load
from tunesmith.sft import Sft, encode, make_trainer
from tunesmith.training import train

BASE, READY, OUT = Path("models/base"), Path("data/ready"), Path("models")


def main(kind: str) -> str:
    sft, lora = load(Sft, "sft"), load(weights.Lora, "lora")
    out, data = OUT / f"sft-{kind}", READY / sft.dataset
    rows = ready.read(data / "train.jsonl")
    labels.check_rows("sft", rows, data / "train.jsonl")
    held_out = ready.read(data / "validation.jsonl") if sft.probes else []
    probes = [row["prompt"] for row in held_out[: sft.probes]]
    profile = device.detect()
    base = models.open_model(BASE, BASE, profile)
    examples = encode(base.tokenizer, rows, sft.max_length, data / "train.jsonl")
    params = {"sft": sft.model_dump(), "lora": lora.model_dump()}
    origin = lineage.collect(
        base=base.manifest,
        source=lineage.read(BASE)["source"],
        inputs=[data / "train.jsonl", data / "validation.jsonl"],
        params=params,
        seed=sft.seed,
        device=profile.name,
    )
    set_seed(sft.seed)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer(
            weights.add_lora(base.model, lora), base.tokenizer, examples, sft, profile, Path(scratch)
        )
        manifest = train(
            trainer,
            out=out,
            tokenizer=base.tokenizer,
            profile=profile,
            probes=probes,
            tokens=sft.epochs * sum(len(example.input_ids) for example in examples),
            about={
                "model": out.name,
                "method": f"SFT with {weights.NAMES[kind]}",
                "params": params,
                "dataset": sft.dataset,
                "rows": len(rows),
            },
            origin=origin,
        )
    end = journal.first(journal.read(out / journal.NAME), "end")
    digest = manifest.weights_digest[:12]
    return f"{out}: {len(rows)} rows, {end['steps']} steps in {end['seconds']:.0f} s, weights {digest}"


if __name__ == "__main__":
    run(lambda: main(sys.argv[1]))
