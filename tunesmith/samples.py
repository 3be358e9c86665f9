"""What is kept of every prompt that a model was asked."""

from typing import Any

Sample = dict[str, Any]
"""{suite, id, prompt, rendered, reference, completion, tokens, stopped, well_formed, score, answer, reason, status},
and what else of the row its verifier read. tokens, stopped and well_formed are None where nothing was generated."""
