"""Compute a padded batch without its padding: as one packed sequence of its rows, which attend by their offsets."""

from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from tunesmith.models.attention import packed_attention

PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask")
"""Fields that TRL's fused head returns for every token but the first of a row, (batch, tokens - 1)."""
UNLABELLED = -100
"""The label of a token that is not scored."""


class UnpaddedRows:
    """A model, called as TRL's trainers call it, that computes the tokens of a padded batch and no padding.

    The given model is called once, so that what wraps it, such as DDP, stays in place. Where it does not attend by
    offsets (`packed_attention.attend_packed`), or is not asked for per-token outputs by ``labels``, it is the plain
    model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, *, input_ids: Tensor, attention_mask: Tensor, **settings: Any) -> Any:
        """The model's output. Per-token outputs return to their places in the batch: zeros for padding."""
        if "labels" not in settings or not packed_attention.attends_packed(self.model):
            return self.model(input_ids=input_ids, attention_mask=attention_mask, **settings)
        kept = attention_mask.bool()
        first = kept & (attention_mask.cumsum(1) == 1)  # would be predicted by the row before
        labels = settings.pop("labels").masked_fill(first, UNLABELLED)
        settings |= packed_attention.layout(attention_mask.sum(1).tolist(), input_ids.device)
        output = self.model(input_ids=input_ids[kept][None], labels=labels[kept][None], **settings)
        for name in PER_TOKEN:
            if getattr(output, name, None) is not None:
                setattr(output, name, _in_place(getattr(output, name), kept))
        return output


def _in_place(values: Tensor, kept: Tensor) -> Tensor:
    """Values of all tokens of a packed sequence but its first, (1, tokens - 1), in a batch: (rows, width - 1)."""
    spread = values.new_zeros(kept.shape).masked_scatter(kept, pad(values, (1, 0)))
    return spread[:, 1:]
