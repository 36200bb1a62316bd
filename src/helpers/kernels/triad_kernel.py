"""The triad z = x + s * y in Triton: three streams, nothing else. Imported only with Triton."""

import triton
import triton.language as tl


@triton.jit
def triad_kernel(x_ptr, y_ptr, z_ptr, s, n, BLOCK: tl.constexpr):
    # one program for each block of BLOCK elements; this one's block:
    block = tl.program_id(axis=0)
    # (BLOCK,) positions in the arrays. Neighbouring threads get neighbouring elements, so that
    # a warp's loads fall into few memory transactions.
    offsets = block * BLOCK + tl.arange(0, BLOCK)
    # the last block hangs over the end unless BLOCK divides n: leave those elements alone
    inside = offsets < n
    x = tl.load(x_ptr + offsets, mask=inside)  # (BLOCK,) read
    y = tl.load(y_ptr + offsets, mask=inside)  # (BLOCK,) read
    tl.store(z_ptr + offsets, x + s * y, mask=inside)  # (BLOCK,) written
