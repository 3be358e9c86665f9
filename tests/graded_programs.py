"""Programs that return a value, and rows to grade them by."""

from tunesmith.verifiers.verdict import Columns


def returning(expression: str) -> str:
    """A program whose function `f` returns the value of an expression."""
    return f"def f():\n    return {expression}"


def expecting(value: object, **columns: object) -> Columns:
    """A row whose program must return this value from `f()`."""
    return {"entry_point": "f", "cases": [{"args": [], "expected": value}], **columns}
