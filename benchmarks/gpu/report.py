"""The results of a run as Markdown."""

from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.parts import PARTS, Part

Result = dict[str, Any]

GB = 1e9
WITHIN = 0.1
"""The difference of measured from predicted memory that is aimed at, as a share."""


def markdown(results: Sequence[Result]) -> str:
    """A page of what is there so far: the machine, what is right, what is fast, and what was not measured."""
    by_name = {result["part"]: result for result in results if "part" in result}
    found = [(part, by_name[part.name]) for part in PARTS if part.name in by_name]
    measured = [(part, result) for part, result in found if not {"skipped", "failed"} & result.keys()]
    head = next((result for result in results if "run" in result), None)
    sections = [
        *(_machine(head["run"], head["missing"]) if head else ["# One GPU", "No process could import the libraries."]),
        *_table("Correctness", ("part", "within tolerance", "found", "s"), _right(measured)),
        *_table("Speed", SPEED, _fast(measured)),
        *([MFU] if _fast(measured) else []),
        *_table("Memory: predicted by `tunesmith plan`, and measured", MEMORY, _memory(measured)),
        *_table("Not measured", ("part", "why"), _absent(found)),
    ]
    return "\n\n".join(sections) + "\n"


SPEED = (
    "part", "tokens/s", "tokens a step", "s a step", "TFLOP/s", "MFU", "MFU by 6N", "generation", "recomputed",
    "to beat",
)  # fmt: skip
MFU = (
    "MFU counts two forward passes where an adapter trains and three where all weights do, with the output head and "
    "causal attention and without recomputation, as NeMo AutoModel's published figures do; by 6N, six operations for "
    "each parameter and token. Tokens are those of the rows, without padding."
)
MEMORY = ("part", "predicted GB", "peak GB", "peak / predicted", f"within {WITHIN:.0%}", "reserved GB")


def _machine(run: Result, missing: list[str]) -> list[str]:
    libraries = ", ".join(f"{name} {version}" for name, version in run["libraries"].items() if version)
    locked = ", ".join(f"{name} {version}" for name, version in run["locked"].items())
    lines = [
        f"- {run['date']}, commit {run['commit']}",
        f"- Python {run['python']}, {libraries}",
        *(
            [f"- driver {run['driver']}, CUDA {run['cuda']}, {run['memory_bytes'] / GB:.0f} GB"]
            if "cuda" in run
            else []
        ),
        *([f"- the lock has other versions: {locked}"] if locked else []),
        *([f"- not installed: {', '.join(missing)}"] if missing else []),
        *(["- tiny shapes: the numbers mean nothing, only that every part runs"] if run["tiny"] else []),
    ]
    return [f"# {run['card']}", "\n".join(lines)]


def _table(title: str, columns: Sequence[str], rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"## {title}", "\n".join("| " + " | ".join(line) + " |" for line in lines)]


def _right(measured: Sequence[tuple[Part, Result]]) -> list[list[str]]:
    return [
        [part.name, "yes" if result["ok"] else "**no**", _found(result), f"{result['seconds']:.0f}"]
        for part, result in measured
        if part.theme == "right"
    ]


def _found(result: Result) -> str:
    """The numbers of a part of correctness, in words."""
    if "paths" in result:
        bad = [name for name, path in result["paths"].items() if not path["ok"]]
        worst = max(path.get("gradient", 0.0) for path in result["paths"].values())
        return f"gradients differ by up to {worst:.1e} of their norm" + (f"; off: {', '.join(bad)}" if bad else "")
    if "scores" in result:
        return ", ".join(f"{name} {score:.2f}" for name, score in result["scores"].items())
    if "error" in result:
        return str(result["error"]).replace("\n", " ")
    compared = [(name, result[name]) for name in ("again", "resumed") if name in result]
    return ", ".join(
        f"{name}: {'the same bytes' if there['same'] else format(there['distance'], '.1e') + ' of the norm apart'}"
        for name, there in compared
    )


def _fast(measured: Sequence[tuple[Part, Result]]) -> list[list[str]]:
    return [
        [
            part.name,
            f"{result['tokens_per_second']:,.0f}",
            f"{result['tokens_per_step']:,.0f}",
            f"{result['step_seconds']:.3f}",
            _number(result.get("tflops_per_second"), "{:.0f}"),
            _number(result.get("mfu"), "{:.1%}"),
            _number(result.get("mfu_6n"), "{:.1%}"),
            _number(result.get("generation_share"), "{:.0%} of the step"),
            "yes" if result["checkpointing"] else "no",
            part.to_beat,
        ]
        for part, result in measured
        if part.theme == "fast"
    ]


def _memory(measured: Sequence[tuple[Part, Result]]) -> list[list[str]]:
    return [
        [
            part.name,
            _number(result.get("predicted_bytes") and result["predicted_bytes"] / GB, "{:.2f}"),
            f"{result['peak_bytes'] / GB:.2f}",
            _number(ratio := result.get("measured_over_predicted"), "{:.2f}"),
            "–" if ratio is None else "yes" if abs(ratio - 1) <= WITHIN else "**no**",
            _number(result["reserved_bytes"] and result["reserved_bytes"] / GB, "{:.2f}"),
        ]
        for part, result in measured
        if part.theme == "fast"
    ]


def _absent(found: Sequence[tuple[Part, Result]]) -> list[list[str]]:
    reasons = [
        (part.name, result.get("skipped") or f"failed: {result['failed']}")
        for part, result in found
        if {"skipped", "failed"} & result.keys()
    ]
    return [[name, reason.replace("\n", " ").replace("|", "/")[:300]] for name, reason in reasons]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
