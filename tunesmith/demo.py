"""The demonstration data: two-term sums and differences from reasoning-gym, each prompt once.

The domain serves every kind of label: a sum has one right answer (SFT), a wrong one beside it makes a preference
pair (DPO), and a number can be checked (GRPO).
"""

import sys
from types import ModuleType

from pydantic import NonNegativeInt, PositiveInt

from tunesmith.errors import ParamsError
from tunesmith.params import Section


class Demo(Section):
    rows: PositiveInt
    seed: NonNegativeInt


def generate(demo: Demo) -> list[dict[str, str]]:
    """Distinct rows {question, answer}; the same seed gives the same rows. Raises ParamsError if too many are asked."""
    # reasoning-gym imports pycosat for its logic puzzles, which are not used here. It exists as C source alone, so it
    # is left out of the lock: setting up must not need a compiler (docs/decisions/006).
    sys.modules.setdefault("pycosat", ModuleType("pycosat"))
    import reasoning_gym

    source = reasoning_gym.create_dataset(
        "chain_sum", seed=demo.seed, size=2 * demo.rows, min_terms=2, max_terms=2, min_digits=1, max_digits=2
    )
    answers = {item["question"]: item["answer"] for item in source}
    if len(answers) < demo.rows:
        raise ParamsError(
            f"params.yaml: demo.rows: {demo.rows} distinct rows do not come from {2 * demo.rows} draws",
            fix=f"ask for at most {len(answers)} rows",
        )
    return [{"question": question, "answer": answer} for question, answer in list(answers.items())[: demo.rows]]
