"""What moves the weights: Muon for matrices, AdamW for the rest, one schedule for both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers.lm.arithmetic import fast_dtype

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


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix of nearly the same singular vectors, all singular values brought near 1.

    Newton-Schulz iteration with the coefficients of Jordan (2024): a polynomial that lifts small
    singular values fast. Those above a hundredth of the matrix's norm end within a third of 1.

    Parameters
    ----------
    matrix : Tensor [rows, columns]
    steps : int

    Examples
    --------
    >>> found = orthogonal(torch.diag(torch.tensor([9.0, 3.0, 1.0])))
    >>> bool((found.diagonal() > 0.67).all() and (found.diagonal() < 1.33).all())
    True
    """
    a, b, c = 3.4445, -4.775, 2.0315
    upright = len(matrix) > matrix.shape[1]
    x = matrix.T if upright else matrix  # so that x xᵀ is the smaller square
    x = x / x.norm().clamp(min=1e-7)  # no singular value above 1
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if upright else x


class Float32Muon(torch.optim.Muon):
    """Torch's Muon with its products in float32; torch's own are always in bf16.

    With Nesterov's momentum and steps of the size of AdamW's, as :func:`build` asks for.
    """

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state, share = self.state[weight], group["momentum"]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                momentum = state["momentum_buffer"].lerp_(weight.grad, 1 - share)
                update = orthogonal(weight.grad.lerp(momentum, share))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)


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
    in_bf16 = fast_dtype(next(model.parameters()).device) is torch.bfloat16
    return [
        (torch.optim.Muon if in_bf16 else Float32Muon)(
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
