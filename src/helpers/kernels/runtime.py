"""Where a kernel can run here, and what to say when it cannot."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: one of these is what :func:`how` answers
WAYS = ("gpu", "interpreter", "reference")


@cache
def _has(package: str) -> bool:
    return find_spec(package) is not None


def how() -> str:
    """How the kernels run on this machine.

    Returns
    -------
    str
        ``"gpu"``: compiled, on a CUDA device. ``"interpreter"``: Triton's interpreter on the CPU,
        asked for with ``TRITON_INTERPRET=1`` before Triton is imported. ``"reference"``: there is
        no Triton, or no GPU and no interpreter: torch's own operations stand in.
    """
    if not (_has("triton") and _has("torch")):
        return "reference"
    if os.environ.get("TRITON_INTERPRET", "") == "1":
        return "interpreter"
    import torch

    return "gpu" if torch.cuda.is_available() else "reference"


def explain() -> str:
    """The same in a sentence for a reader, with what would change it."""
    way = how()
    if way == "gpu":
        return "The Triton kernels run compiled on the GPU."
    if way == "interpreter":
        return "The Triton kernels run in Triton's interpreter on the CPU: right, but slow."
    if not _has("torch"):
        return "torch is not installed, so neither the kernels nor their references run."
    if not _has("triton"):
        return (
            "Triton is not installed (its wheel unpacks to 1 GB, so the book does not require"
            " it): torch's own operations stand in for the kernels. pip install triton on Linux"
            " brings them."
        )
    return (
        "There is no GPU: torch's own operations stand in for the kernels. Set TRITON_INTERPRET=1"
        " before Python starts to run the kernels themselves, slowly, on the CPU."
    )


def source(name: str) -> str:
    """Text of a kernel, for reading.

    Parameters
    ----------
    name : {"triad", "matmul", "paged_attention"}
        Which kernel.

    Returns
    -------
    str
        The kernel function alone, without imports and launchers.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    names = ("triad", "matmul", "paged_attention")
    if name not in names:
        raise ValueError(f"name: {name!r} is not one of {', '.join(names)}")
    text = (Path(__file__).parent / f"{name}_kernel.py").read_text(encoding="utf-8")
    return text[text.index("@triton.jit") :].rstrip()


def check_block(name: str, block: Any, least: int) -> None:
    """Refuse a tile size that is no power of two.

    Parameters
    ----------
    name : str
        The argument's name.
    block : int
        Elements along one side.
    least : int
        Smallest that the kernel takes.

    Raises
    ------
    TypeError
        If it is no integer.
    ValueError
        If it is too small or no power of two.

    Examples
    --------
    >>> check_block("block_k", 32, 16)
    """
    if isinstance(block, bool) or not isinstance(block, int):
        raise TypeError(f"{name}: {block!r} is a {type(block).__name__}; allowed is an integer")
    if block < least or block & (block - 1):
        room = f" of at least {least}" if least > 1 else ""
        raise ValueError(f"{name}: {block!r} is not a power of two{room}")


def check_tensors(shape_ranks: dict[str, int], **tensors: Any) -> None:
    """Refuse what a kernel would read wrongly: other ranks, dtypes, devices, strides.

    Parameters
    ----------
    shape_ranks : dict of str to int
        How many dimensions each must have.
    **tensors : torch.Tensor
        By argument name.

    Raises
    ------
    TypeError
        If one is not a tensor of fp32, fp16 or bf16.
    ValueError
        For a wrong number of dimensions, a tensor that is not contiguous, or mixed dtypes and
        devices.
    """
    import torch

    allowed = (torch.float32, torch.float16, torch.bfloat16)
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype not in allowed:
            given = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise TypeError(f"{name}: {given} is not a tensor of float32, float16 or bfloat16")
        if tensor.dim() != shape_ranks[name]:
            raise ValueError(
                f"{name}: has {tensor.dim()} dimensions, {shape_ranks[name]} are needed"
            )
        if not tensor.is_contiguous():
            raise ValueError(f"{name}: is not contiguous; call .contiguous() first")
        if tensor.dtype != first.dtype or tensor.device != first.device:
            raise ValueError(
                f"{name}: {tensor.dtype} on {tensor.device}, but {first_name} is"
                f" {first.dtype} on {first.device}"
            )
