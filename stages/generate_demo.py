"""Write the demonstration data, two-term arithmetic, as a user would bring their own rows.

reads   nothing
params  demo
writes  data/raw/{demo,demo_pairs,demo_prompts}.jsonl
"""

from pathlib import Path

from tunesmith import ready
from tunesmith.console import run
from tunesmith.demo import Demo, generate
from tunesmith.params import load

RAW = Path("data/raw")
FILES = {"answers": RAW / "demo.jsonl", "pairs": RAW / "demo_pairs.jsonl", "prompts": RAW / "demo_prompts.jsonl"}


def main() -> str:
    made = generate(load(Demo, "demo"))
    for kind, path in FILES.items():
        ready.write_jsonl(path, made[kind])
    return "; ".join(f"{path}: {len(made[kind])} rows" for kind, path in FILES.items())


if __name__ == "__main__":
    run(main)
