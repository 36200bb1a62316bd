"""The triad z = x + s * y: two reads and a write per element, the plainest bandwidth test."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

from helpers.kernels.runtime import check_block, check_tensors, how

if TYPE_CHECKING:
    import torch


def triad_reference(x: torch.Tensor, y: torch.Tensor, s: float) -> torch.Tensor:
    """``x + s * y`` by torch.

    Parameters
    ----------
    x, y : torch.Tensor
        (n,) of one dtype on one device.
    s : float
        Factor.
    """
    import torch

    return torch.add(x, y, alpha=s)


def triad(x: torch.Tensor, y: torch.Tensor, s: float, *, block: int = 1024) -> torch.Tensor:
    """``x + s * y`` by the Triton kernel, or by torch where there is none.

    Parameters
    ----------
    x, y : torch.Tensor
        (n,) contiguous, fp32, fp16 or bf16, on one device.
    s : float
        Factor.
    block : int
        Elements per program, a power of two.

    Returns
    -------
    torch.Tensor
        (n,)

    Raises
    ------
    TypeError, ValueError
        For tensors the kernel cannot take, different lengths, a factor that is no number, or a
        block that is no power of two.
    """
    check_tensors({"x": 1, "y": 1}, x=x, y=y)
    if x.shape != y.shape:
        raise ValueError(f"y: has {y.shape[0]} elements, x has {x.shape[0]}")
    if isinstance(s, bool) or not isinstance(s, Real):
        raise TypeError(f"s: {s!r} is a {type(s).__name__}; allowed is a number")
    check_block("block", block, 1)
    way = how()
    if way == "reference" or (way == "gpu" and not x.is_cuda):
        return triad_reference(x, y, s)
    import torch
    import triton

    from helpers.kernels.triad_kernel import triad_kernel

    z = torch.empty_like(x)
    n = x.numel()
    if n:
        triad_kernel[(triton.cdiv(n, block),)](x, y, z, s, n, BLOCK=block)
    return z
