"""Save a model as safetensors."""

import os
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError


def save_model(model: Any, out: Path, **settings: Any) -> None:
    """`save_pretrained` into ``out``. Raises OSError for a full disk, which safetensors tells in its own way."""
    try:
        model.save_pretrained(out, **settings)
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(out)) from None
