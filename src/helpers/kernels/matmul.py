"""A tiled matrix product: the reuse that lifts an operation off the memory roof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.kernels.runtime import check_block, check_tensors, how

if TYPE_CHECKING:
    import torch


def matmul_reference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a @ b`` by torch, summed in fp32.

    Parameters
    ----------
    a, b : torch.Tensor
        (M, K) and (K, N) of one dtype on one device.
    """
    return (a.float() @ b.float()).to(a.dtype)


def matmul(
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    block_m: int | None = None,
    block_n: int | None = None,
    block_k: int | None = None,
) -> torch.Tensor:
    """``a @ b`` by the Triton kernel, or by torch where there is none.

    Parameters
    ----------
    a, b : torch.Tensor
        (M, K) and (K, N), contiguous, fp32, fp16 or bf16, on one device.
    block_m, block_n, block_k : int, optional
        Tile sizes, powers of two of at least 16; by default 128 x 128 x 32 on a GPU and
        64 x 64 x 64 in the interpreter.

    Returns
    -------
    torch.Tensor
        (M, N) in the dtype of the inputs, summed in fp32.

    Raises
    ------
    TypeError, ValueError
        For tensors the kernel cannot take, shapes that do not fit, or tiles of another size.
    NotImplementedError
        For bf16 in the interpreter, whose ``tl.dot`` returns wrong numbers for it.
    """
    check_tensors({"a": 2, "b": 2}, a=a, b=b)
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"b: has {b.shape[0]} rows, a has {a.shape[1]} columns")
    way = how()
    default = (128, 128, 32) if way == "gpu" else (64, 64, 64)
    blocks = [
        given if given is not None else usual
        for given, usual in zip((block_m, block_n, block_k), default, strict=True)
    ]
    for name, block in zip(("block_m", "block_n", "block_k"), blocks, strict=True):
        check_block(name, block, 16)
    if way == "reference" or (way == "gpu" and not a.is_cuda):
        return matmul_reference(a, b)
    import torch
    import triton

    if way == "interpreter" and a.dtype == torch.bfloat16:
        raise NotImplementedError("a: bfloat16 gives wrong numbers in Triton's interpreter")

    from helpers.kernels.matmul_kernel import matmul_kernel

    (m, k), n = a.shape, b.shape[1]
    c = torch.empty(m, n, dtype=a.dtype, device=a.device)
    tiles = triton.cdiv(m, blocks[0]) * triton.cdiv(n, blocks[1])
    if tiles and k:
        matmul_kernel[(tiles,)](
            a, b, c, m, n, k,
            BLOCK_M=blocks[0], BLOCK_N=blocks[1], BLOCK_K=blocks[2], GROUP_M=8,
            IEEE=a.dtype == torch.float32,
        )  # fmt: skip
    else:
        c.zero_()
    return c
