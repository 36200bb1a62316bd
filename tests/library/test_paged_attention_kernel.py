"""Decode attention over a paged cache: reference, kernel, planted wrong kernels, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from paged_attention_check import LENGTHS, agree, case, with_the_engine  # noqa: E402

from helpers import kernels  # noqa: E402

HAVE_TRITON = find_spec("triton") is not None
HAVE_GPU = HAVE_TRITON and torch.cuda.is_available()


@pytest.mark.parametrize("group", [1, 2, 4, 8])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_the_reference_is_torchs_attention_of_each_sequence(group, scale):
    q, keys, values, tables, lengths = case(group=group, hostile=True, shared=True)
    got = kernels.paged_attention_reference(q, keys, values, tables, lengths, scale=scale)
    for place, length in enumerate(LENGTHS):
        # token by token, so that no slicing is shared with what is tested: [S, Hkv, D]
        k, v = (
            torch.stack([stored[tables[place, t // 16], t % 16] for t in range(length)]).double()
            for stored in (keys, values)
        )
        want = F.scaled_dot_product_attention(
            q[place].double().unsqueeze(1),  # [H, 1, D]
            k.transpose(0, 1),  # [Hkv, S, D]
            v.transpose(0, 1),
            scale=scale,
            enable_gqa=True,
        ).squeeze(1)
        torch.testing.assert_close(got[place].double(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(kernels.how() == "interpreter", reason="runs in a process of its own below")
def test_the_engines_own_decoding_agrees():
    with_the_engine()


@pytest.mark.skipif(
    not HAVE_TRITON, reason="TRITON IS NOT INSTALLED: paged attention's kernel is not tested here"
)
def test_the_kernel_in_the_interpreter():
    # a process of its own: the interpreter is chosen when Triton is imported
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("paged_attention_check.py"))],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the kernel agrees" in done.stdout


@pytest.mark.skipif(not HAVE_GPU, reason="NO GPU WITH TRITON")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dim", [32, 64, 128])
@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_the_kernel_on_the_gpu(dtype, dim, group):
    assert kernels.how() == "gpu"
    agree(case(group=group, dim=dim, dtype=dtype, device="cuda", hostile=True))
    agree(case((1, 700, 5000), group=group, dim=dim, dtype=dtype, device="cuda"), check=False)


@pytest.mark.skipif(HAVE_TRITON, reason="Triton is installed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_without_triton_the_reference_runs(dtype):
    assert kernels.how() == "reference"
    assert "Triton is not installed" in kernels.explain()
    arguments = case(dtype=dtype)
    got = kernels.paged_attention(*arguments)
    assert got.dtype == dtype
    assert torch.equal(got, kernels.paged_attention_reference(*arguments))


def test_the_report_says_how_it_ran_and_times_against_a_prediction(monkeypatch):
    from types import SimpleNamespace

    from helpers.bench import kernel_check

    assert kernel_check.paged_attention_report().splitlines()[0] == kernels.explain()
    assert all("agrees" in line for line in kernel_check._paged_attention_agrees("cpu"))

    def once(call):
        call()
        return SimpleNamespace(median_s=1e-3)

    # all of the GPU's path but the GPU: each call runs once, and a clock that always says 1 ms
    monkeypatch.setattr(kernel_check, "time_cuda", once)
    lines = kernel_check._paged_attention_speed(batch=2, tokens=64, device="cpu")
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "Triton, paged", "torch, in one piece", "torch, gathered first"
    ]  # fmt: skip
    # keys, values: 2 * 128 rows of 8 * 128; q, out: 2 * 2 rows of 32 * 128; 3 passes in 1 ms
    needed, streamed = 2 * (2 * 128 * 8 * 128 + 2 * 2 * 32 * 128), 3 * 128 * 8 * 128 * 2
    assert f"{needed / streamed * 1e3:.0f} us at the rate of a triad" in lines[0]
    assert all(f"{streamed / needed:.2f} of the prediction" in line for line in lines[1:])


def test_a_kernel_that_is_off_fails_the_report(monkeypatch):
    from helpers.bench import kernel_check

    for wrong in (0.1, torch.nan):
        off = kernels.paged_attention_reference
        monkeypatch.setattr(
            kernels, "paged_attention", lambda *args, wrong=wrong, off=off: off(*args) + wrong
        )
        with pytest.raises(AssertionError, match="float32: off by"):
            kernel_check._paged_attention_agrees("cpu")


def test_what_stands_behind_the_end_changes_nothing():
    q, keys, values, tables, lengths = case(dtype=torch.float32)
    _, hostile_keys, hostile_values, hostile_tables, _ = case(dtype=torch.float32, hostile=True)
    want = kernels.paged_attention(q, keys, values, tables, lengths)
    got = kernels.paged_attention(q, hostile_keys, hostile_values, hostile_tables, lengths)
    torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("group", [1, 2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_bytes_are_those_of_the_tensors(group, dtype):
    q, keys, _, _, lengths = case(group=group, kv_heads=2, dim=64, dtype=dtype)
    shape = dict(heads=2 * group, kv_heads=2, head_dim=64, bytes_per_element=dtype.itemsize)
    q_and_out = 2 * q.nbytes
    read = 2 * sum(LENGTHS) * keys[0, 0].nbytes  # rows of keys and of values
    assert kernels.paged_attention_bytes(lengths.tolist(), **shape) == q_and_out + read
    often = kernels.paged_attention_bytes(lengths.tolist(), **shape, shared_loads=False)
    assert often == q_and_out + group * read


def _with(**changes):
    """A call of the kernel with some arguments changed; a function gets what was there."""
    names = ("q", "keys", "values", "tables", "lengths")
    arguments = dict(zip(names, case(), strict=True))
    for name, change in changes.items():
        arguments[name] = change(arguments[name]) if callable(change) else change
    return kernels.paged_attention(**arguments)


def _put(place, number):
    def change(tensor):
        tensor[place] = number
        return tensor

    return change


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"q": [1.0]}, TypeError, "q: list is not a tensor of float32, float16 or bfloat16"),
        ({"q": lambda q: q.double()}, TypeError, "q: torch.float64 is not"),
        ({"q": lambda q: q[0]}, ValueError, "q: has 2 dimensions, 3 are needed"),
        ({"q": lambda q: q[..., ::2]}, ValueError, "q: is not contiguous"),
        ({"keys": lambda k: k.half()}, ValueError, "keys: torch.float16 on cpu, but q is"),
        ({"keys": lambda k: k.unsqueeze(0)}, ValueError, "keys: has 5 dimensions, 4 are needed"),
        ({"values": lambda v: v[:-1]}, ValueError, r"values: have shape \(16, 16, 2, 32\), keys"),
        (
            {"q": lambda q: q[..., :16].contiguous()},
            ValueError,
            "keys: have head size 32, q has 16",
        ),
        ({"q": lambda q: q[:, :3].contiguous()}, ValueError, "heads: 3 query heads on 2 heads"),
        ({"q": lambda q: q[:, :1].contiguous()}, ValueError, "heads: 1 query heads on 2 heads"),
        ({"tables": [[0]]}, TypeError, "tables: list is not a tensor of int32 or int64"),
        ({"tables": lambda t: t.float()}, TypeError, "tables: torch.float32 is not a tensor of"),
        ({"tables": lambda t: t[:-1]}, ValueError, r"tables: has shape \[5, 8\]; \[6, most_blocks"),
        ({"tables": lambda t: t[:, ::2]}, ValueError, "tables: must be contiguous and on cpu"),
        ({"tables": _put((4, 1), 17)}, ValueError, "tables: sequence 4 has block 17; .* 0 to 16"),
        ({"tables": _put((0, 0), -1)}, ValueError, "tables: sequence 0 has block -1; the cache"),
        ({"lengths": lambda n: n.unsqueeze(1)}, ValueError, r"lengths: has shape \[6, 1\]; \[6\]"),
        ({"lengths": lambda n: n.short()}, TypeError, "lengths: torch.int16 is not a tensor of"),
        ({"lengths": _put(2, 0)}, ValueError, "lengths: sequence 2 has 0 tokens; allowed are 1 to"),
        ({"lengths": _put(5, 129)}, ValueError, "sequence 5 has 129 tokens; allowed are 1 to 128,"),
        ({"scale": "x"}, TypeError, "scale: 'x' is a str; allowed is a number"),
        ({"tile": 8}, ValueError, "tile: 8 is not a power of two of at least 16"),
        ({"tile": 24}, ValueError, "tile: 24 is not a power of two of at least 16"),
        ({"tile": 16.0}, TypeError, "tile: 16.0 is a float"),
    ],
)
def test_what_the_kernel_would_read_wrongly_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        _with(**changes)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"dim": 48}, "q: head size: 48 is not a power of two of at least 16"),
        ({"dim": 8}, "q: head size: 8 is not a power of two of at least 16"),
        ({"block_size": 12}, "keys: block size: 12 is not a power of two"),
    ],
)
def test_sizes_that_are_no_powers_of_two_are_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        kernels.paged_attention(*case(**sizes))


def test_bytes_of_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="heads: 6 query heads on 4 heads of keys and values"):
        kernels.paged_attention_bytes([1], heads=6, kv_heads=4, head_dim=8, bytes_per_element=2)
