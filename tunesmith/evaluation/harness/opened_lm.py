"""lm-eval's model around one that was opened and verified here."""

from typing import Any

from lm_eval.models.huggingface import HFLM

from tunesmith.models.loading import OpenModel


class OpenedLM(HFLM):
    """lm-eval's model, which takes the weights as they are."""

    def __init__(self, opened: OpenModel, batch_size: int, **settings: Any) -> None:
        model: Any = opened.model
        # lm-eval ties weights once more, and transformers cannot tie embeddings that an adapter trained; they are tied.
        model.tie_weights = lambda: None
        try:
            super().__init__(pretrained=model, tokenizer=opened.tokenizer, batch_size=batch_size, **settings)
        finally:
            del model.tie_weights
