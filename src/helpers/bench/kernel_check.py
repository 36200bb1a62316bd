"""Run the book's Triton kernels wherever they can run, beside torch in the same run."""

from __future__ import annotations

from helpers import kernels
from helpers.bench.timing import rotating_copies, time_cuda

#: prime and 11 * 71: no tile divides them
AWKWARD = (1823, 781)
#: tokens of sequences: below, at and above one or two blocks of 16, and many
AWKWARD_LENGTHS = (1, 15, 16, 17, 31, 100)


def _agree_on_awkward_sizes(device: str) -> list[str]:
    import torch

    generator = torch.Generator().manual_seed(0)
    rows, columns = AWKWARD
    lines = []
    for dtype in (torch.float32, torch.float16):
        a = (torch.rand(rows, columns, generator=generator) - 0.5).to(dtype).to(device)
        b = (torch.rand(columns, 64, generator=generator) - 0.5).to(dtype).to(device)
        x, y = a.reshape(-1), a.flip(0).reshape(-1)
        triad = (kernels.triad(x, y, 0.5, block=65536) - kernels.triad_reference(x, y, 0.5)).abs()
        product = (kernels.matmul(a, b) - kernels.matmul_reference(a, b)).abs()
        # room for another order of summation: rounding errors of a few units in the last place
        allowed = 40 * torch.finfo(dtype).eps
        for name, error in (("triad", triad.max().item()), ("matmul", product.max().item())):
            if error > allowed:
                raise AssertionError(f"{name} {dtype}: off by {error:.2e}, allowed {allowed:.2e}")
        name = str(dtype).removeprefix("torch.")
        lines.append(f"{rows} x {columns}, {name}: triad and matmul agree with torch")
    return lines


def _speed_on_the_gpu() -> list[str]:
    import torch

    l2_bytes = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 64 * 2**20
    elements = 64 * 2**20
    copies = rotating_copies(3 * 4 * elements, l2_bytes)
    data = [tuple(torch.rand(elements, device="cuda") for _ in range(2)) for _ in range(copies)]
    moved = 3 * 4 * elements
    best: dict[str, float] = {}
    for name, call in (("triad", kernels.triad), ("triad torch", kernels.triad_reference)):
        timing = time_cuda(lambda x, y, call=call: call(x, y, 2.0), arguments=data)
        best[name] = moved / timing.median_s
    size = 4096
    a = torch.randn(size, size, device="cuda", dtype=torch.float16)
    b = torch.randn(size, size, device="cuda", dtype=torch.float16)
    for name, call in (("matmul", kernels.matmul), ("matmul torch", torch.mm)):
        timing = time_cuda(lambda call=call: call(a, b))
        best[name] = 2 * size**3 / timing.median_s
    lines = []
    for name, unit, scale in (("triad", "TB/s", 1e12), ("matmul", "TFLOP/s", 1e12)):
        # the measured peak: the better of the two in this very run
        peak = max(best[name], best[f"{name} torch"])
        for who, rate in (("Triton", best[name]), ("torch", best[f"{name} torch"])):
            lines.append(
                f"{name:<7} {who:<7} {rate / scale:8.2f} {unit:<8} {rate / peak:6.1%} of the best"
            )
    return lines


def kernel_report() -> str:
    """What the kernels do on this machine: speed on a GPU, correctness in the interpreter.

    Returns
    -------
    str
        A few lines; the first says how the kernels ran.

    Raises
    ------
    AssertionError
        If a kernel and its reference disagree.
    """
    way = kernels.how()
    lines = [kernels.explain()]
    if way == "gpu":
        lines += _agree_on_awkward_sizes("cuda") + _speed_on_the_gpu()
    elif way == "interpreter":
        lines += _agree_on_awkward_sizes("cpu")
    return "\n".join(lines)


def _scattered_cache(lengths, heads: int, kv_heads: int, dtype, device: str) -> list:
    """Arguments of paged attention: blocks of 16 tokens, head size 128, tables in random order."""
    import torch

    generator = torch.Generator().manual_seed(0)
    counts = [-(-length // 16) for length in lengths]
    order = torch.randperm(sum(counts), generator=generator, dtype=torch.int32)
    tables = torch.zeros(len(lengths), max(counts), dtype=torch.int32)
    for row, blocks in zip(tables, order.split(counts), strict=True):
        row[: len(blocks)] = blocks
    q = torch.randn(len(lengths), heads, 128, generator=generator).to(device, dtype)
    keys, values = (
        torch.randn(len(order), 16, kv_heads, 128, generator=generator).to(device, dtype)
        for _ in range(2)
    )
    return [q, keys, values, tables.to(device), torch.tensor(lengths, device=device)]


def _paged_attention_agrees(device: str) -> list[str]:
    import torch

    lines = []
    for dtype in (torch.float32, torch.float16):
        for group in (1, 4):
            arguments = _scattered_cache(AWKWARD_LENGTHS, 2 * group, 2, dtype, device)
            got = kernels.paged_attention(*arguments)
            error = (got - kernels.paged_attention_reference(*arguments)).abs().max().item()
            allowed = 40 * torch.finfo(dtype).eps
            # written so that a NaN does not pass
            if not error <= allowed:
                raise AssertionError(f"{dtype}: off by {error:.2e}, allowed {allowed:.2e}")
        name = str(dtype).removeprefix("torch.")
        lengths = ", ".join(map(str, AWKWARD_LENGTHS))
        lines.append(f"lengths {lengths}, {name}: paged attention agrees with torch")
    return lines


def _paged_attention_speed(batch: int = 32, tokens: int = 4096, device: str = "cuda") -> list[str]:
    """Predict the time from the bytes and the rate of a triad, then measure, beside torch."""
    import torch
    import torch.nn.functional as F

    heads, kv_heads, head_dim = 32, 8, 128
    arguments = _scattered_cache([tokens] * batch, heads, kv_heads, torch.float16, device)
    q, keys, values, tables, _ = arguments
    moved = kernels.paged_attention_bytes(
        [tokens] * batch, heads=heads, kv_heads=kv_heads, head_dim=head_dim, bytes_per_element=2
    )

    def gather():
        # [B * blocks, 16, Hkv, D] -> [B, S, Hkv, D] -> [B, Hkv, S, D]
        return [
            stored.index_select(0, tables.flatten())
            .view(batch, -1, kv_heads, head_dim)
            .transpose(1, 2)
            for stored in (keys, values)
        ]

    # the G query heads that share keys are G queries to them: [B, H, D] -> [B, Hkv, G, D]
    queries = q.view(batch, kv_heads, -1, head_dim)
    in_one_piece = [stored.contiguous() for stored in gather()]
    x, y = (stored.view(-1) for stored in (keys, values))
    triad = time_cuda(lambda: kernels.triad_reference(x, y, 0.5)).median_s
    predicted_s = moved / (3 * x.nbytes / triad)
    calls = {
        "Triton, paged": lambda: kernels.paged_attention(*arguments, check=False),
        "torch, in one piece": lambda: F.scaled_dot_product_attention(queries, *in_one_piece),
        "torch, gathered first": lambda: F.scaled_dot_product_attention(queries, *gather()),
    }
    lines = [
        f"{batch} sequences of {tokens} tokens, {heads} query heads on {kv_heads}, float16: at"
        f" least {moved / 1e6:.0f} MB, {predicted_s * 1e6:.0f} us at the rate of a triad"
    ]
    for name, call in calls.items():
        seconds = time_cuda(call).median_s
        lines.append(
            f"{name:<22} {seconds * 1e6:8.0f} us, {seconds / predicted_s:5.2f} of the prediction"
        )
    return lines


def paged_attention_report() -> str:
    """What paged attention does on this machine: time on a GPU, correctness in the interpreter.

    Returns
    -------
    str
        A few lines; the first says how the kernel ran.

    Raises
    ------
    AssertionError
        If the kernel and its reference disagree.
    """
    way = kernels.how()
    lines = [kernels.explain()]
    if way == "gpu":
        lines += _paged_attention_agrees("cuda") + _paged_attention_speed()
    elif way == "interpreter":
        lines += _paged_attention_agrees("cpu")
    return "\n".join(lines)
