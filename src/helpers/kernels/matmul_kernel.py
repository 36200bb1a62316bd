"""A tiled matrix product c = a @ b in Triton. Imported only with Triton."""

import triton
import triton.language as tl


@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    IEEE: tl.constexpr,
):  # fmt: skip
    # a (M, K), b (K, N), c (M, N), all row-major. One program makes one tile of c:
    # rows tile_m * BLOCK_M ..., columns tile_n * BLOCK_N ...
    program = tl.program_id(axis=0)
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    # Programs that run at the same time should share rows of a and columns of b in the L2
    # cache: walk down GROUP_M tiles before stepping one tile to the right.
    group = program // (GROUP_M * tiles_n)
    first_m = group * GROUP_M
    group_m = min(tiles_m - first_m, GROUP_M)
    tile_m = first_m + (program % (GROUP_M * tiles_n)) % group_m
    tile_n = (program % (GROUP_M * tiles_n)) // group_m

    rows = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)  # (BLOCK_M,)
    columns = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)  # (BLOCK_N,)
    depth = tl.arange(0, BLOCK_K)  # (BLOCK_K,)
    a_tile = a_ptr + rows[:, None] * K + depth[None, :]  # (BLOCK_M, BLOCK_K) addresses
    b_tile = b_ptr + depth[:, None] * N + columns[None, :]  # (BLOCK_K, BLOCK_N) addresses

    # the sum stays in registers, in fp32 whatever the inputs are
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        left = K - start  # the last slice may be thinner than BLOCK_K: zeros add nothing
        a = tl.load(a_tile, mask=(rows[:, None] < M) & (depth[None, :] < left), other=0.0)
        b = tl.load(b_tile, mask=(depth[:, None] < left) & (columns[None, :] < N), other=0.0)
        # Each loaded element takes part in BLOCK_N (or BLOCK_M) products: this is the reuse that
        # lifts a matrix product off the memory roof. IEEE asks for fp32 without TF32 rounding.
        if IEEE:  # noqa: SIM108 (decided when the kernel is compiled)
            total = tl.dot(a, b, total, input_precision="ieee")
        else:
            total = tl.dot(a, b, total)
        a_tile += BLOCK_K
        b_tile += BLOCK_K * N

    c_tile = c_ptr + rows[:, None] * N + columns[None, :]  # (BLOCK_M, BLOCK_N) addresses
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tl.store(c_tile, total.to(c_ptr.dtype.element_ty), mask=inside)
