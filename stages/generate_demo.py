"""Write the demonstration data, two-term arithmetic, as a user would bring their own rows.

reads   nothing
params  demo
writes  data/raw/demo.jsonl
"""

from pathlib import Path

from tunesmith import ready
from tunesmith.console import run
from tunesmith.demo import Demo, generate
from tunesmith.params import load

OUT = Path("data/raw/demo.jsonl")


def main() -> str:
    rows = generate(load(Demo, "demo"))
    ready.write_jsonl(OUT, rows)
    return f"{OUT}: {len(rows)} rows"


if __name__ == "__main__":
    run(main)
