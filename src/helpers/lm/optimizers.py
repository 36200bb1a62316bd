"""What moves the weights: Muon for matrices, AdamW for the rest, one schedule for both."""

from __future__ import annotations

import torch
from torch import nn

#: steps in which the learning rate of a new model rises
WARM_UP = 40


def learning_rate_factor(
    step: int, steps: int, warm_up: int = WARM_UP, cool_down: float = 0.4
) -> float:
    """Share of the full learning rate at ``step``: up, flat, then down to zero.

    Until the fall begins nothing depends on ``steps``: a run can be made shorter or longer half-way
    (Hu et al., *MiniCPM*, 2024, section 4).

    Parameters
    ----------
    step : int
        From 0 to ``steps - 1``.
    steps : int
    warm_up : int
        Steps spent rising.
    cool_down : float
        Share of the steps spent falling.

    Examples
    --------
    >>> [learning_rate_factor(s, 100, warm_up=4, cool_down=0.4) for s in (0, 3, 60, 80, 99)]
    [0.25, 1.0, 1.0, 0.5, 0.025]
    """
    if not 0 <= step < steps:
        raise ValueError(f"step is {step}; it must be from 0 to {steps - 1}")
    rise = (step + 1) / max(warm_up, 1)
    fall = (steps - step) / max(cool_down * steps, 1)
    return min(1.0, rise, fall)


def build(
    model: nn.Module, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """One optimizer for the matrices inside the layers, one for everything else.

    Muon takes the momentum of a matrix and makes its singular values equal before stepping (Jordan,
    2024); scaled to the size of AdamW's steps, so that one learning rate serves both (Liu et al.,
    *Muon is Scalable for LLM Training*, 2025, section 2.2). Embeddings, norms and biases are no
    maps between channels and stay with AdamW.
    """
    matrices = [p for p in model.layers.parameters() if p.dim() == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    decayed = [p for p in rest if p.dim() == 2]
    free = [p for p in rest if p.dim() != 2]
    return [
        torch.optim.Muon(
            matrices,
            lr=learning_rate,
            weight_decay=weight_decay,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": weight_decay},
                {"params": free, "weight_decay": 0.0},
            ],
            lr=learning_rate,
            betas=(0.9, 0.95),
        ),
    ]
