"""The optimizers: those that transformers makes by name, and Muon, which is made here."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer
from transformers import Trainer

from tunesmith.core import extras
from tunesmith.models import settings
from tunesmith.models.weights import HEADS

OPTIM: dict[settings.Optimizer, str] = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",  # with the schedule's rate: transformers turns relative steps and scaling by norm off
    "muon": "adamw_torch_fused",  # for what is no hidden matrix
}
"""transformers' names of the optimizers."""


def argument(optimizer: settings.Optimizer, device: str) -> str:
    """The argument ``optim`` of transformers' trainers. Raises MissingLibraryError where its library is missing.

    On a CPU, whose memory is the machine's, the paged optimizer is the one in 8 bits.
    """
    if "8bit" in optimizer:
        extras.check("bitsandbytes")
    return OPTIM["adamw_8bit" if optimizer == "paged_adamw_8bit" and device == "cpu" else optimizer]


def prepare(trainer: Trainer, optimizer: settings.Optimizer) -> None:
    """Give ``trainer`` the optimizer where transformers does not make it by name; call it before `Trainer.train`."""
    if optimizer == "muon":
        trainer.optimizer = make_muon(trainer)


class MuonAndAdamW(Optimizer):
    """Muon (Jordan et al. 2024) for hidden matrices and AdamW for all else, as one optimizer.

    Each holds its part of one list of groups and of one state, so that schedules, checkpoints and accelerate see both.
    """

    def __init__(self, muon: Muon, adamw: AdamW) -> None:
        self.muon, self.adamw = muon, adamw
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        parts = len(self.muon.param_groups)
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:parts], self.param_groups[parts:]
        self.muon.state = self.adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        optimizers: tuple[Optimizer, Optimizer] = (self.muon, self.adamw)
        for optimizer in optimizers:
            optimizer.step()
        return loss


def make_muon(trainer: Trainer) -> MuonAndAdamW:
    """Muon over the trained hidden matrices of a trainer's model, factors of adapters among them.

    Embeddings, output heads, norms, biases, DoRA's magnitudes and stacks of matrices, such as the experts of a mixture,
    are AdamW's. The updates have the size of AdamW's (``match_rms_adamw``, Liu et al. 2025), so that both take its
    learning rate; biases and norms do not decay.
    """
    model, args = trainer.model, trainer.args
    embeddings = {
        id(values)
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
        for values in module.parameters()
    }
    decaying = set(trainer.get_decay_parameter_names(model))
    matrices: list[Tensor] = []
    others: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, values in model.named_parameters():
        if not values.requires_grad:
            continue
        if values.ndim == 2 and id(values) not in embeddings and not {*HEADS} & {*name.split(".")}:
            matrices.append(values)
        else:
            others[name in decaying].append(values)
    muon = Muon(
        [{"params": matrices}], lr=args.learning_rate, weight_decay=args.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    adamw = AdamW(
        [{"params": others[True], "weight_decay": args.weight_decay}, {"params": others[False], "weight_decay": 0.0}],
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
    )
    return MuonAndAdamW(muon, adamw)
