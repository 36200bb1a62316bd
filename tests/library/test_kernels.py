"""The Triton kernels against torch, in the interpreter, on sizes that no tile divides."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")

from helpers import kernels  # noqa: E402

HAVE_TRITON = find_spec("triton") is not None
needs_triton = pytest.mark.skipif(
    not HAVE_TRITON, reason="TRITON IS NOT INSTALLED: the kernels themselves are not tested here"
)

INTERPRETER_CHECK = """
import torch
from helpers import kernels
assert kernels.how() == "interpreter", kernels.how()
generator = torch.Generator().manual_seed(0)
def rand(*shape, dtype=torch.float32):
    return (torch.rand(*shape, generator=generator) - 0.5).to(dtype)
for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3)):
    for n in (1, 1023, 1024, 1025, 1823 * 7):
        x, y = rand(n, dtype=dtype), rand(n, dtype=dtype)
        got = kernels.triad(x, y, 1.5)
        torch.testing.assert_close(got, x + 1.5 * y, rtol=tolerance, atol=tolerance)
    for m, k, n in ((1, 1, 1), (65, 17, 63), (182, 78, 131)):
        a, b = rand(m, k, dtype=dtype), rand(k, n, dtype=dtype)
        want = (a.double() @ b.double()).to(dtype)
        torch.testing.assert_close(kernels.matmul(a, b), want, rtol=tolerance, atol=tolerance)
# awkward at full size: 1823 is prime, 781 = 11 * 71
a, b = rand(1823, 781), rand(781, 96)
torch.testing.assert_close(kernels.matmul(a, b), a @ b, rtol=1e-4, atol=1e-4)
x, y = rand(1823 * 781, dtype=torch.float16), rand(1823 * 781, dtype=torch.float16)
got = kernels.triad(x, y, -0.25, block=65536)
torch.testing.assert_close(got, x - 0.25 * y, rtol=2e-3, atol=2e-3)
try:
    kernels.matmul(rand(4, 4, dtype=torch.bfloat16), rand(4, 4, dtype=torch.bfloat16))
except NotImplementedError as error:
    assert "bfloat16" in str(error)
else:
    raise AssertionError("bf16 must be refused in the interpreter")
print("kernels agree")
"""


@needs_triton
def test_kernels_in_the_interpreter():
    # a process of its own: the interpreter is chosen when Triton is imported
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETER_CHECK],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kernels agree" in done.stdout


@pytest.mark.skipif(not (HAVE_TRITON and torch.cuda.is_available()), reason="NO GPU WITH TRITON")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_kernels_on_the_gpu(dtype):
    assert kernels.how() == "gpu"
    x = torch.randn(1823 * 781, device="cuda").to(dtype)
    y = torch.randn_like(x)
    torch.testing.assert_close(kernels.triad(x, y, 1.5), x + 1.5 * y, rtol=2e-2, atol=2e-2)
    a = torch.randn(1823, 781, device="cuda").to(dtype)
    b = torch.randn(781, 519, device="cuda").to(dtype)
    want = (a.double() @ b.double()).to(dtype)
    torch.testing.assert_close(kernels.matmul(a, b), want, rtol=2e-2, atol=2e-1)


@pytest.mark.skipif(HAVE_TRITON, reason="Triton is installed")
def test_without_triton_the_reference_runs_and_says_so():
    assert kernels.how() == "reference"
    assert "Triton is not installed" in kernels.explain()
    x, y = torch.arange(5.0), torch.ones(5)
    assert kernels.triad(x, y, 2.0).tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    a, b = torch.rand(3, 5), torch.rand(5, 2)
    torch.testing.assert_close(kernels.matmul(a, b), a @ b)


def test_source_shows_the_kernel_alone():
    for name in ("triad", "matmul", "paged_attention"):
        text = kernels.source(name)
        assert text.startswith("@triton.jit") and "import" not in text
    with pytest.raises(
        ValueError, match="name: 'softmax' is not one of triad, matmul, paged_attention"
    ):
        kernels.source("softmax")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: kernels.triad(torch.ones(3), torch.ones(4), 1.0), ValueError, "y: has 4 el"),
        (lambda: kernels.triad(torch.ones(3), [1, 2, 3], 1.0), TypeError, "y: list is not a"),
        (lambda: kernels.triad(torch.ones(3).long(), torch.ones(3), 1.0), TypeError, "x: torch.i"),
        (lambda: kernels.triad(torch.ones(6)[::2], torch.ones(3), 1.0), ValueError, "contiguous"),
        (lambda: kernels.triad(torch.ones(3), torch.ones(3), 1.0, block=100), ValueError, "block"),
        (lambda: kernels.triad(torch.ones(3), torch.ones(3), "x"), TypeError, "s: 'x' is a str"),
        (lambda: kernels.triad(torch.ones(3), torch.ones(3), True), TypeError, "s: True is a bool"),
        (
            lambda: kernels.triad(torch.ones(3), torch.ones(3), 1, block=8.0),
            TypeError,
            "block: 8.0",
        ),
        (lambda: kernels.matmul(torch.ones(2, 3), torch.ones(2, 3)), ValueError, "b: has 2 rows"),
        (lambda: kernels.matmul(torch.ones(3), torch.ones(3, 2)), ValueError, "a: has 1 dim"),
        (
            lambda: kernels.matmul(torch.ones(2, 3), torch.ones(3, 2), block_k=8),
            ValueError,
            "block_k: 8 is not",
        ),
        (lambda: kernels.matmul(torch.ones(2, 3), torch.ones(3, 2).half()), ValueError, "float16"),
    ],
)
def test_what_a_kernel_would_read_wrongly_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
