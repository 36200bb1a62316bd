"""Decode attention over a paged cache: nothing but reading keys and values, once.

Decoding, each sequence has one new token, and its query meets all keys and values of the sequence
so far. A server keeps these in blocks that lie anywhere, and a table says where. The plain way
gathers the blocks into one piece and attends to that: all bytes are read, written and read again.
The kernel follows the table and reads each byte once.

How often it is read is what counts, for there are only a few operations per byte. With
grouped-query heads G = H / Hkv queries need the same keys and values. A program for each query head
would load them G times; here a program takes all G queries and loads them once. The arithmetic is
the same, the bytes G times fewer: see :func:`paged_attention_bytes`.

Letters in shape comments: B sequences; S tokens of one sequence; H query heads; Hkv heads of keys
and values; G = H / Hkv query heads that share one; D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING

from helpers.formulas.roofline import attention_bytes
from helpers.kernels.runtime import check_block, check_tensors, how

if TYPE_CHECKING:
    from torch import Tensor

#: keys that a program loads at a time, by default: enough in flight, little enough for any GPU
TILE_BYTES = 16 * 1024
#: rows that ``tl.dot`` needs at least
LEAST_ROWS = 16


def paged_attention_reference(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    lengths: Tensor,
    *,
    scale: float | None = None,
) -> Tensor:
    """The same by torch, one sequence after the other, in fp32: gather, softmax, weighted sum.

    Parameters
    ----------
    q, keys, values, tables, lengths, scale
        As :func:`paged_attention` takes them.

    Returns
    -------
    torch.Tensor
        [B, H, D] in the dtype of ``q``.
    """
    import torch

    block_size, group = keys.shape[1], q.shape[1] // keys.shape[2]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out = torch.empty_like(q)
    for place, length in enumerate(lengths.tolist()):
        table = tables[place, : -(-length // block_size)].long()
        k, v = (
            # [blocks, block_size, Hkv, D] -> [S, Hkv, D] -> [S, H, D]: each head G times
            stored[table].flatten(0, 1)[:length].repeat_interleave(group, dim=1).float()
            for stored in (keys, values)
        )
        scores = torch.einsum("hd,shd->hs", q[place].float(), k) * scale
        out[place] = torch.einsum("hs,shd->hd", scores.softmax(dim=-1), v)
    return out


def paged_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    lengths: Tensor,
    *,
    scale: float | None = None,
    tile: int | None = None,
    check: bool = True,
) -> Tensor:
    """Attend from one new token of each sequence, by the Triton kernel or torch.

    Each of the B * Hkv programs reads one sequence alone. That fills a GPU if B * Hkv is a few
    times its multiprocessors; for a few long sequences one would cut them into parts, and this
    kernel does not.

    Parameters
    ----------
    q : torch.Tensor
        [B, H, D], contiguous, fp32, fp16 or bf16: one query of each sequence and head. D is a power
        of two of at least 16, such as 32, 64 or 128.
    keys, values : torch.Tensor
        [blocks, block_size, Hkv, D], like ``q``: one layer of a paged cache, the new token already
        in it. ``block_size`` is a power of two; H is a multiple of Hkv.
    tables : torch.Tensor
        [B, most_blocks], int32 or int64: the blocks of each sequence in order. What stands behind a
        sequence's last block is not looked at.
    lengths : torch.Tensor
        [B], int32 or int64: tokens of each sequence, the new one included, so 1 or more.
    scale : float, optional
        Factor on the scores; by default 1 / sqrt(D).
    tile : int, optional
        Tokens that a program loads at a time, a power of two of at least 16; by default 16 KiB of
        keys, and at most 128.
    check : bool
        Look at the numbers in ``tables`` and ``lengths`` first. On a GPU that waits for all work
        before it: leave it out where the time is measured. Wrong numbers read foreign memory.

    Returns
    -------
    torch.Tensor
        [B, H, D] in the dtype of ``q``, summed in fp32.

    Raises
    ------
    TypeError, ValueError
        For tensors the kernel cannot take, shapes that do not fit, tables that point outside the
        cache, lengths that are 0 or longer than the table.
    NotImplementedError
        For bf16 in the interpreter, whose ``tl.dot`` returns wrong numbers for it.

    Examples
    --------
    Keys of zeros weigh all tokens alike. So what comes out is the mean of the values of the first
    three tokens, which lie in the blocks 3 and 0:

    >>> import torch
    >>> q, keys, values = torch.ones(1, 2, 16), torch.zeros(4, 2, 1, 16), torch.zeros(4, 2, 1, 16)
    >>> values[3, 0], values[3, 1], values[0, 0] = 1.0, 2.0, 6.0
    >>> out = paged_attention(q, keys, values, torch.tensor([[3, 0]]), torch.tensor([3]))
    >>> out.shape, round(out.mean().item(), 6)
    (torch.Size([1, 2, 16]), 3.0)
    """
    _check_shapes(q, keys, values, tables, lengths)
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, Real)):
        raise TypeError(f"scale: {scale!r} is a {type(scale).__name__}; allowed is a number")
    if tile is not None:
        check_block("tile", tile, LEAST_ROWS)
    if check:
        _check_numbers(keys, tables, lengths)
    way = how()
    if way == "reference" or (way == "gpu" and not q.is_cuda):
        return paged_attention_reference(q, keys, values, tables, lengths, scale=scale)
    import torch
    import triton

    if way == "interpreter" and q.dtype == torch.bfloat16:
        raise NotImplementedError("q: bfloat16 gives wrong numbers in Triton's interpreter")

    from helpers.kernels.paged_attention_kernel import paged_attention_kernel

    (batch, heads, dim), (_, block_size, kv_heads, _) = q.shape, keys.shape
    group = heads // kv_heads
    out = torch.empty_like(q)
    if batch:
        paged_attention_kernel[(kv_heads, batch)](
            q, keys, values, tables, lengths, out,
            float(dim**-0.5 if scale is None else scale), tables.shape[1],
            KV_HEADS=kv_heads, GROUP=group, ROWS=max(LEAST_ROWS, triton.next_power_of_2(group)),
            D=dim, BLOCK_SIZE=block_size, TILE=tile or _usual_tile(dim * q.element_size()),
            IEEE=q.dtype == torch.float32,
            num_stages=2,
        )  # fmt: skip
    return out


def paged_attention_bytes(
    lengths: Sequence[int],
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    bytes_per_element: float,
    shared_loads: bool = True,
) -> float:
    """Bytes that decode attention over one layer must move: queries, keys, values, output.

    Tables and lengths are left out: a table has 4 bytes where a block has thousands. Blocks that
    sequences share are counted for each; a cache on the chip may save some of these.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each sequence.
    heads, kv_heads, head_dim : int
        Query heads, heads of keys and values, and their size.
    bytes_per_element : float
        2 for fp16 and bf16, 4 for fp32.
    shared_loads : bool
        Whether the query heads of a group share each load. If not, every query head loads its keys
        and values by itself, as though it had its own.

    Returns
    -------
    float
        Bytes.

    Raises
    ------
    ValueError
        If ``heads`` is no multiple of ``kv_heads``.

    Examples
    --------
    Three sequences, 32 query heads on 8 heads of keys and values: sharing saves nearly 4 times.

    >>> shape = {"heads": 32, "kv_heads": 8, "head_dim": 128, "bytes_per_element": 2}
    >>> once = paged_attention_bytes([1000, 500, 20], **shape)
    >>> often = paged_attention_bytes([1000, 500, 20], **shape, shared_loads=False)
    >>> once, often
    (6275072, 24952832)
    """
    _check_group(heads, kv_heads)
    loaded_heads = kv_heads if shared_loads else heads
    return sum(
        attention_bytes(1, heads, loaded_heads, 1, length, head_dim, bytes_per_element)
        for length in lengths
    )


def _usual_tile(row_bytes: int) -> int:
    """Tokens of a tile, for keys of so many bytes.

    Examples
    --------
    >>> _usual_tile(128 * 2), _usual_tile(128 * 4), _usual_tile(32 * 2)
    (64, 32, 128)
    """
    return max(LEAST_ROWS, min(128, TILE_BYTES // row_bytes))


def _check_group(heads: int, kv_heads: int) -> None:
    if kv_heads < 1 or heads < 1 or heads % kv_heads:
        raise ValueError(
            f"heads: {heads} query heads on {kv_heads} heads of keys and values; allowed is a"
            " multiple, 1 or more times as many"
        )


def _check_shapes(q: Tensor, keys: Tensor, values: Tensor, tables: Tensor, lengths: Tensor) -> None:
    """Refuse tensors that do not belong together."""
    import torch

    check_tensors({"q": 3, "keys": 4, "values": 4}, q=q, keys=keys, values=values)
    if values.shape != keys.shape:
        raise ValueError(f"values: have shape {tuple(values.shape)}, keys {tuple(keys.shape)}")
    (batch, heads, dim), (_, block_size, kv_heads, keys_dim) = q.shape, keys.shape
    if keys_dim != dim:
        raise ValueError(f"keys: have head size {keys_dim}, q has {dim}")
    _check_group(heads, kv_heads)
    check_block("q: head size", dim, 16)
    check_block("keys: block size", block_size, 1)
    for name, tensor, dims in (("tables", tables, 2), ("lengths", lengths, 1)):
        if not isinstance(tensor, torch.Tensor) or tensor.dtype not in (torch.int32, torch.int64):
            given = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise TypeError(f"{name}: {given} is not a tensor of int32 or int64")
        if tensor.dim() != dims or len(tensor) != batch:
            wanted = f"[{batch}, most_blocks]" if dims == 2 else f"[{batch}]"
            raise ValueError(
                f"{name}: has shape {list(tensor.shape)}; {wanted} is needed, as q has"
                f" {batch} sequences"
            )
        if tensor.device != q.device or not tensor.is_contiguous():
            raise ValueError(
                f"{name}: must be contiguous and on {q.device}, as q is; it is on {tensor.device}"
            )


def _check_numbers(keys: Tensor, tables: Tensor, lengths: Tensor) -> None:
    """Refuse what would read outside the cache or the table."""
    blocks, block_size = keys.shape[:2]
    room = tables.shape[1] * block_size
    for place, (table, length) in enumerate(zip(tables.tolist(), lengths.tolist(), strict=True)):
        if not 1 <= length <= room:
            raise ValueError(
                f"lengths: sequence {place} has {length} tokens; allowed are 1 to {room}, for its"
                f" table has {tables.shape[1]} blocks of {block_size}"
            )
        for block in table[: -(-length // block_size)]:
            if not 0 <= block < blocks:
                raise ValueError(
                    f"tables: sequence {place} has block {block}; the cache has blocks 0 to"
                    f" {blocks - 1}"
                )
