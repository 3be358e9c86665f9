"""The names of verifiers, apart from them: what only asks whether there is one does not change when one does."""

NAMES = (
    "choice",
    "code",
    "exact",
    "instructions",
    "json_schema",
    "length",
    "math",
    "number",
    "refusal",
    "regex",
)
