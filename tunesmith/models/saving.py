"""Save a model as safetensors."""

import os
import re
from pathlib import Path

from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel


def save_model(model: PreTrainedModel | PeftModel, out: Path, **settings: object) -> None:
    """`save_pretrained` into ``out``. Raises OSError for a full disk, where safetensors raises an error of its own."""
    try:
        model.save_pretrained(out, **settings)
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(out)) from None
