"""Shapes of models that `tunesmith plan` does not know by name, as configs."""

import json
import tempfile
from pathlib import Path
from typing import Any

from tunesmith.planning import model_shape

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-4b": {
        "model_type": "qwen3",
        "num_hidden_layers": 36,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": True,
    },
    "two-layers": {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 512,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    },
}


def source(name: str) -> str:
    """What `model_shape` reads the shape from: a name that it knows, or a config in a temporary folder."""
    if name in model_shape.KNOWN:
        return name
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    (folder / "config.json").write_text(json.dumps(SHAPES[name]))
    return str(folder)
