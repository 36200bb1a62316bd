"""Run the book's Triton kernels wherever they can run, beside torch in the same run."""

from __future__ import annotations

from helpers import kernels
from helpers.bench.timing import rotating_copies, time_cuda

#: prime and 11 * 71: no tile divides them
AWKWARD = (1823, 781)


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
