"""The check that no row is longer than a training or an evaluation takes."""

from pathlib import Path

from tunesmith.core.errors import DataError


def check_lengths(lengths: list[int], max_length: int, section: str, source: Path) -> None:
    """Raise DataError where rows are longer than ``max_length``, which a trainer would cut or drop in silence."""
    long = [length for length in lengths if length > max_length]
    if long:
        raise DataError(
            f"{source}: {len(long)} of {len(lengths)} rows are longer than {section}.max_length ({max_length} tokens)",
            fix=f"set {section}.max_length in params.yaml to at least {max(long)}, the longest of them, or the "
            f"dataset's own max_length to {max_length}, which sets those rows aside",
        )
