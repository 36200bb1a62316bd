"""Decode attention over a paged cache in Triton. Imported only with Triton."""

import triton
import triton.language as tl


@triton.jit
def paged_attention_kernel(
    q_ptr, keys_ptr, values_ptr, tables_ptr, lengths_ptr, out_ptr, scale, most_blocks,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, D: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, TILE: tl.constexpr, IEEE: tl.constexpr,
):  # fmt: skip
    # q, out (B, KV_HEADS * GROUP, D); keys, values (blocks, BLOCK_SIZE, KV_HEADS, D); tables
    # (B, most_blocks). One program serves one sequence and one head of keys and values. The heads
    # of a token lie together, so neighbouring programs read neighbouring memory.
    kv_head, sequence = tl.program_id(axis=0), tl.program_id(axis=1)
    length = tl.load(lengths_ptr + sequence)
    table_ptr = tables_ptr + sequence * most_blocks

    # All GROUP queries that share this head, at once: each key and value is then loaded once, not
    # GROUP times. tl.dot wants 16 rows: those beyond GROUP are zeros. That wastes arithmetic, of
    # which there is plenty, and no bytes.
    row, column = tl.arange(0, ROWS), tl.arange(0, D)  # (ROWS,), (D,)
    query = (sequence * KV_HEADS + kv_head) * GROUP + row  # (ROWS,) rows of q as (B * H, D)
    q_at = query[:, None] * D + column[None, :]  # (ROWS, D) positions
    real = row[:, None] < GROUP  # (ROWS, 1)
    q = tl.load(q_ptr + q_at, mask=real, other=0.0)

    # The online softmax keeps, for each row: the highest score so far, the sum of exp(score -
    # highest), and the values weighted with the same. In fp32, whatever the inputs are.
    highest = tl.full((ROWS,), float("-inf"), dtype=tl.float32)
    weight = tl.zeros((ROWS,), dtype=tl.float32)
    total = tl.zeros((ROWS, D), dtype=tl.float32)
    for first in range(0, length, TILE):
        position = first + tl.arange(0, TILE)  # (TILE,) tokens of the sequence
        inside = position < length  # the last tile and the last block may be part empty
        # the one thing that paging adds: ask the table where a token lies
        block = tl.load(table_ptr + position // BLOCK_SIZE, mask=inside, other=0)
        # 64 bits: a cache may hold more than 2**31 elements
        slot = block.to(tl.int64) * BLOCK_SIZE + position % BLOCK_SIZE  # (TILE,)
        at = (slot[:, None] * KV_HEADS + kv_head) * D + column[None, :]  # (TILE, D) positions
        k = tl.load(keys_ptr + at, mask=inside[:, None], other=0.0)
        v = tl.load(values_ptr + at, mask=inside[:, None], other=0.0)

        # (ROWS, D) by (D, TILE): scores; IEEE asks for fp32 without TF32 rounding
        if IEEE:
            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        else:
            scores = tl.dot(q, tl.trans(k)) * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))  # (ROWS,)
        shrink = tl.exp(highest - higher)  # what was summed so far was relative to `highest`
        p = tl.exp(scores - higher[:, None])  # (ROWS, TILE), 0 beyond the end
        weight = weight * shrink + tl.sum(p, axis=1)
        total = total * shrink[:, None]
        # (ROWS, TILE) by (TILE, D): the weighted sum of this tile's values
        if IEEE:
            total = tl.dot(p, v, total, input_precision="ieee")
        else:
            total = tl.dot(p.to(v.dtype), v, total)
        highest = higher

    out = total / weight[:, None]
    tl.store(out_ptr + q_at, out.to(out_ptr.dtype.element_ty), mask=real)
