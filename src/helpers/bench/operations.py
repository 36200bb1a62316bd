"""Real operations of the chapter, each with its FLOPs, its bytes and the bound a card sets.

An :class:`Operation` counts what it must do; :func:`predict` turns the counts into seconds with a
machine card; :func:`measure` runs it; :func:`compare` puts both side by side and says what the
difference is made of. The counts are those of :mod:`helpers.formulas.roofline`.

The prediction is the roofline's bound and nothing else: the longer of arithmetic at the card's
rates and bytes at the card's bandwidth *for that working set*. Arithmetic has two rates:
multiplications and additions at the peak of a matrix product, exponentials at what ``exp2``
reaches, since both keep the same vector units busy. No constant is fitted to the operations.
Those that the card was measured with (dot, copy, triad, square matrix product) are shown but do not
count as predictions.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from helpers.bench.environment import Environment, current_environment
from helpers.bench.machine import MachineCard
from helpers.bench.timing import Measurement, format_seconds, quantile, time_call, time_cuda
from helpers.formulas import roofline

FP32, BF16 = 4, 2  # bytes per element

#: the operations that built a card repeat within this factor where nothing has changed since
STEADY = (0.77, 1.3)
#: a measurement whose quartiles lie further apart, as a share of the median, was disturbed
SMALL_SPREAD = 0.2
#: how a reader has the card measured anew
AGAIN = "bench.probe.my_card(again=True)"
#: a larger unexplained share is no matter of a kernel's extra passes
PLAUSIBLE_REST = 0.8


@dataclass(frozen=True)
class Operation:
    """An operation with its counts.

    Attributes
    ----------
    name : str
        Unique, as the tables show it.
    dtype : str
        The dtype whose peak bounds it.
    flops : float
        Multiplications, additions, comparisons, exponentials: one each.
    read_bytes, update_bytes, write_bytes : float
        Bytes of arrays that are only read, read and written back in place, freshly written.
    working_set_bytes : float
        Bytes of all arrays together: decides which cache can hold them.
    build : callable
        ``build(device)`` makes the data and returns the call to time.
    calls : int
        Library calls it takes; each costs a dispatch.
    exponentials : int
        Exponentials (a tanh counts as one): far dearer than the one FLOP they count as.
    fresh_bytes : float
        Bytes of output that the call allocates anew from the system.
    built_the_card : bool
        Whether the card was measured with this very operation.
    remark : str
        What the bound leaves out, for the table.
    """

    name: str
    dtype: str
    flops: float
    read_bytes: float
    update_bytes: float
    write_bytes: float
    working_set_bytes: float
    build: Callable[[str], Callable[[], Any]] = field(repr=False)
    calls: int = 1
    exponentials: int = 0
    fresh_bytes: float = 0
    built_the_card: bool = False
    remark: str = ""

    @property
    def moved_bytes(self) -> float:
        """Bytes read plus bytes written, by the program's own count."""
        return self.read_bytes + 2 * self.update_bytes + self.write_bytes

    @property
    def intensity(self) -> float:
        """FLOPs for each moved byte."""
        return roofline.arithmetic_intensity(self.flops, self.moved_bytes)


# ---- the list --------------------------------------------------------------------------------


def _stream(name: str, elements: int, kind: str) -> Operation:
    """Copy, dot, scale, triad, axpy or a chain of three elementwise calls over fp32 arrays."""
    array = elements * FP32

    def build(device: str) -> Callable[[], Any]:
        import torch

        x = torch.ones(elements, device=device)
        y = torch.ones(elements, device=device)
        if kind == "copy":
            return lambda: y.copy_(x)
        if kind == "dot":
            return lambda: torch.dot(x, y)
        if kind == "scale":
            return lambda: torch.mul(x, 2.0, out=y)
        if kind == "triad":
            z = torch.ones(elements, device=device)
            return lambda: torch.add(x, y, alpha=2.0, out=z)
        if kind == "axpy":
            return lambda: y.add_(x, alpha=1e-9)

        def chain() -> Any:
            torch.mul(x, 2.0, out=y)
            y.add_(1.0)
            return y.relu_()

        return chain

    counts = {  # arrays: FLOPs per element, read, updated, written, touched, calls
        "copy": (0, 1, 0, 1, 2, 1),
        "dot": (2, 2, 0, 0, 2, 1),
        "scale": (1, 1, 0, 1, 2, 1),
        "triad": (2, 2, 0, 1, 3, 1),
        "axpy": (2, 1, 1, 0, 2, 1),
        "chain": (3, 1, 2, 1, 2, 3),
    }[kind]
    flops, read, update, write, touched, calls = counts
    return Operation(
        name=name,
        dtype="fp32",
        flops=flops * elements,
        read_bytes=read * array,
        update_bytes=update * array,
        write_bytes=write * array,
        working_set_bytes=touched * array,
        build=build,
        calls=calls,
        built_the_card=kind in ("copy", "dot", "triad"),
        remark={"chain": "three passes where a fused kernel needs one"}.get(kind, ""),
    )


def _row_maximum(name: str, rows: int, columns: int) -> Operation:
    def build(device: str) -> Callable[[], Any]:
        import torch

        x = torch.rand(rows, columns, device=device)  # (rows, columns)
        return lambda: x.amax(dim=1)  # (rows,)

    return Operation(
        name=name,
        dtype="fp32",
        flops=rows * (columns - 1),
        read_bytes=rows * columns * FP32,
        update_bytes=0,
        write_bytes=rows * FP32,
        working_set_bytes=rows * (columns + 1) * FP32,
        build=build,
        remark="each row ends in a reduction across one vector register",
    )


def _softmax(name: str, rows: int, columns: int) -> Operation:
    def build(device: str) -> Callable[[], Any]:
        import torch

        x = torch.rand(rows, columns, device=device)
        out = torch.empty_like(x)
        return lambda: torch.softmax(x, dim=1, out=out)

    array = rows * columns * FP32
    assert roofline.softmax_bytes(rows, columns, FP32, 2) == 2 * array
    return Operation(
        name=name,
        dtype="fp32",
        flops=roofline.softmax_flops(rows, columns),
        read_bytes=array,  # a row stays in the cache over its three passes
        update_bytes=0,
        write_bytes=array,
        working_set_bytes=2 * array,
        build=build,
        exponentials=rows * columns,
        remark="three passes over each row; an exponential is counted as one FLOP",
    )


def _layer_norm(name: str, rows: int, columns: int) -> Operation:
    def build(device: str) -> Callable[[], Any]:
        import torch

        x = torch.rand(rows, columns, device=device)
        weight, bias = torch.ones(columns, device=device), torch.zeros(columns, device=device)
        return lambda: torch.nn.functional.layer_norm(x, (columns,), weight, bias)

    array = rows * columns * FP32
    return Operation(
        name=name,
        dtype="fp32",
        # mean 1, variance 3 (subtract, square, add), normalise 2, scale and shift 2
        flops=8 * rows * columns,
        read_bytes=array + 2 * columns * FP32,
        update_bytes=0,
        write_bytes=array,
        working_set_bytes=2 * array,
        build=build,
        # this call returns a new array; a large one comes from the system page by page
        fresh_bytes=array if array > 32 * 2**20 else 0,
        remark="mean and variance in a pass of their own",
    )


def _gemm(name: str, m: int, k: int, n: int, dtype: str = "fp32") -> Operation:
    size = {"fp32": FP32, "bf16": BF16}[dtype]

    def build(device: str) -> Callable[[], Any]:
        import torch

        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        a = torch.rand(m, k, device=device).to(kind)  # (m, k)
        b = torch.rand(k, n, device=device).to(kind)  # (k, n)
        if n == 1:
            vector, result = b[:, 0].contiguous(), torch.empty(m, dtype=kind, device=device)
            return lambda: torch.mv(a, vector, out=result)  # (m, k) (k,) -> (m,)
        c = torch.empty(m, n, dtype=kind, device=device)
        return lambda: torch.mm(a, b, out=c)

    moved = roofline.gemm_bytes(m, k, n, size)
    written = m * n * size
    return Operation(
        name=name,
        dtype=dtype,
        flops=roofline.gemm_flops(m, k, n),
        read_bytes=moved - written,
        update_bytes=0,
        write_bytes=written,
        working_set_bytes=moved,
        build=build,
        built_the_card=m == k == n and m >= 256,
        remark="the library's kernel for a matrix times a vector"
        if n == 1
        else "blocks are first copied into the order that the kernel reads (packing)",
    )


def _attention(name: str, heads: int, queries: int, keys: int, head_dim: int) -> Operation:
    def build(device: str) -> Callable[[], Any]:
        import torch

        q = torch.rand(1, heads, queries, head_dim, device=device)  # (B, H, T, D)
        k = torch.rand(1, heads, keys, head_dim, device=device)
        v = torch.rand(1, heads, keys, head_dim, device=device)
        return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)

    pairs = queries * keys  # every query sees every key: no mask
    moved = roofline.attention_bytes(1, heads, heads, queries, keys, head_dim, FP32)
    written = heads * queries * head_dim * FP32
    return Operation(
        name=name,
        dtype="fp32",
        flops=roofline.attention_flops(1, heads, pairs, head_dim),
        read_bytes=moved - written,
        update_bytes=0,
        write_bytes=written,
        working_set_bytes=moved,
        build=build,
        exponentials=heads * pairs,
        remark="small tiles of the two products, and the softmax's other passes",
    )


def _mlp(name: str, tokens: int, d_model: int, ffn: int) -> Operation:
    def build(device: str) -> Callable[[], Any]:
        import torch

        up = torch.rand(ffn, d_model, device=device) / d_model  # (F, C)
        down = torch.rand(d_model, ffn, device=device) / ffn  # (C, F)
        x = torch.rand(tokens, d_model, device=device)  # (T, C)
        linear, gelu = torch.nn.functional.linear, torch.nn.functional.gelu
        return lambda: linear(gelu(linear(x, up), approximate="tanh"), down)  # (T, C)

    weights = 2 * d_model * ffn * FP32
    inner, outer = tokens * ffn * FP32, tokens * d_model * FP32
    return Operation(
        name=name,
        dtype="fp32",
        flops=roofline.gemm_flops(tokens, d_model, ffn)
        + roofline.gemm_flops(tokens, ffn, d_model)
        + 8 * tokens * ffn,  # GELU: a cubic, a tanh, two products
        read_bytes=weights + outer + 2 * inner,
        update_bytes=0,
        write_bytes=outer + 2 * inner,
        working_set_bytes=weights + 2 * outer + 2 * inner,
        build=build,
        calls=3,
        exponentials=tokens * ffn,
        remark="the hidden layer is written and read back twice around GELU",
    )


def operations() -> list[Operation]:
    """The chapter's operations, some in main memory and some in a cache.

    Returns
    -------
    list of Operation
        The same on every machine, so that readers can compare theirs.

    Examples
    --------
    >>> len(operations()) >= 10
    True
    """
    return [
        _stream("dot, 128 MiB", 16 * 2**20, "dot"),
        _stream("copy, 128 MiB", 16 * 2**20, "copy"),
        _stream("triad, 144 MiB", 12 * 2**20, "triad"),
        _gemm("GEMM 1024, square", 1024, 1024, 1024),
        _stream("scale, 128 MiB", 16 * 2**20, "scale"),
        _stream("scale, 4 MiB", 512 * 2**10, "scale"),
        _stream("axpy, 128 MiB", 16 * 2**20, "axpy"),
        _stream("axpy, 2 MiB", 256 * 2**10, "axpy"),
        _stream("elementwise chain, 128 MiB", 16 * 2**20, "chain"),
        _stream("elementwise chain, 4 MiB", 512 * 2**10, "chain"),
        _row_maximum("row maximum, 128 MiB", 16384, 2048),
        _row_maximum("row maximum, 4 MiB", 1024, 1024),
        _softmax("softmax, 128 MiB", 8192, 2048),
        _softmax("softmax, 4 MiB", 512, 1024),
        _layer_norm("layer norm, 128 MiB", 8192, 2048),
        _layer_norm("layer norm, 4 MiB", 512, 1024),
        _gemm("GEMV, 128 MiB", 8192, 4096, 1),
        _gemm("GEMV, 4 MiB", 1024, 1024, 1),
        _gemm("GEMM small, 64", 64, 64, 64),
        _gemm("GEMM, 8 tokens x 128 MiB", 8, 4096, 8192),
        _gemm("GEMM large, fp32", 512, 2048, 1536),
        _gemm("GEMM large, bf16", 1024, 2048, 1536, "bf16"),
        _attention("attention prefill, 1024", 8, 1024, 1024, 64),
        _attention("attention decode, 32768 keys", 8, 1, 32768, 64),
        _mlp("MLP, 1 token", 1, 2048, 8192),
        _mlp("MLP, 256 tokens", 256, 1024, 4096),
    ]


#: what the lab's playground offers
PLAYGROUND_SIZES = (64, 128, 256, 512, 1024, 2048)
PLAYGROUND_KINDS = ("matmul fp32", "matmul bf16", "matrix x vector", "axpy", "softmax")


def playground_operation(kind: str, n: int) -> Operation:
    """An operation on n x n matrices for the playground.

    Parameters
    ----------
    kind : str
        One of ``PLAYGROUND_KINDS``.
    n : int
        Side of the matrices.

    Raises
    ------
    ValueError
        For an unknown kind or a size below 1.
    """
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n: {n!r} is not an integer of at least 1")
    make = {
        "matmul fp32": lambda name: _gemm(name, n, n, n),
        "matmul bf16": lambda name: _gemm(name, n, n, n, "bf16"),
        "matrix x vector": lambda name: _gemm(name, n, n, 1),
        "axpy": lambda name: _stream(name, n * n, "axpy"),
        "softmax": lambda name: _softmax(name, n, n),
    }
    if kind not in make:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(make)}")
    return make[kind](f"{kind}, n = {n}")


def playground_operations() -> list[Operation]:
    """Every setting of the playground, for the recorded run."""
    return [playground_operation(kind, n) for kind in PLAYGROUND_KINDS for n in PLAYGROUND_SIZES]


def operation(name: str) -> Operation:
    """One operation by name.

    Parameters
    ----------
    name : str
        As in :func:`operations`.

    Raises
    ------
    ValueError
        For an unknown name; the message lists those there are.
    """
    known = {op.name: op for op in operations()}
    if name not in known:
        raise ValueError(f"name: {name!r} is not one of: {'; '.join(known)}")
    return known[name]


# ---- prediction ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """The bound of one operation on one machine, in seconds.

    Attributes
    ----------
    compute_s : float
        FLOPs at the card's peak of the dtype, exponentials at the card's rate of them.
    memory_s : float
        Bytes at the card's cost per byte, by kind of stream, for this working set.
    dispatch_s : float
        What the library calls cost before they do anything; stated apart, in no bound.
    level : str
        Where the working set lives.
    """

    compute_s: float
    memory_s: float
    dispatch_s: float
    level: str

    @property
    def max_s(self) -> float:
        """The prediction: arithmetic and transfers overlap perfectly."""
        return max(self.compute_s, self.memory_s)

    @property
    def sum_s(self) -> float:
        """The other end of the interval: they do not overlap at all."""
        return self.compute_s + self.memory_s

    @property
    def bound_by(self) -> str:
        """``"compute"`` or ``"memory"``."""
        return "compute" if self.compute_s >= self.memory_s else "memory"


def predict(op: Operation, card: MachineCard, threads: int | None = None) -> Prediction:
    """The roofline's bound for an operation on a machine.

    Parameters
    ----------
    op : Operation
        What is to be done.
    card : MachineCard
        What the machine was measured to do.
    threads : int, optional
        All threads by default.

    Returns
    -------
    Prediction
        Seconds of arithmetic, of memory and of dispatch.

    Raises
    ------
    ValueError
        If the card lacks the dtype or the thread count.
    """
    size = op.working_set_bytes
    memory_s = sum(
        count * card.seconds_per_byte(stream, size, threads)
        for stream, count in (
            ("read", op.read_bytes),
            ("update", op.update_bytes),
            ("write", op.write_bytes),
        )
        if count
    )
    peak = card.peak(op.dtype, threads)
    exponentials_s = op.exponentials * (card.exponential_s or 1.0 / peak)
    return Prediction(
        compute_s=(op.flops - op.exponentials) / peak + exponentials_s,
        memory_s=memory_s,
        dispatch_s=op.calls * card.dispatch_s,
        level=card.cache_level(size),
    )


# ---- measurement -----------------------------------------------------------------------------


class OperationsRun(BaseModel):
    """Measured operations with all samples: what a recorded run holds.

    Attributes
    ----------
    environment : Environment
        Hardware and versions.
    created : date
        Day of the measurement.
    command : str
        What was run.
    seconds_spent : float
        What it cost.
    threads : int
        torch's threads.
    measurements : dict of str to Measurement
        By the operation's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    kind: Literal["operations"] = "operations"
    environment: Environment
    device: Literal["cpu", "cuda"] = "cpu"
    created: date
    command: str = "python -m helpers.bench.record"
    seconds_spent: float = Field(ge=0)
    threads: int = Field(ge=1)
    measurements: dict[str, Measurement]


def time_operation(
    op: Operation, *, device: str = "cpu", samples: int = 7, max_total_s: float = 0.5
) -> Measurement:
    """Time one operation.

    Parameters
    ----------
    op : Operation
        What to run.
    device : {"cpu", "cuda"}
        Where.
    samples : int
        Samples to take.
    max_total_s : float
        Aim for at most this long.

    Returns
    -------
    Measurement
        Seconds per call.
    """
    import torch

    with torch.inference_mode():
        call = op.build(device)
        if device == "cuda":
            return time_cuda(call, name=op.name, samples=samples).rounded()
        return time_call(
            call,
            name=op.name,
            samples=samples,
            min_sample_s=min(0.02, max_total_s / (samples + 3)),
            max_total_s=max_total_s,
        ).rounded()


def together(before: Measurement | None, after: Measurement) -> Measurement:
    """One measurement with the samples of two of the same operation."""
    if before is None:
        return after
    return after.model_copy(update={"samples_s": (*before.samples_s, *after.samples_s)})


def measure(
    ops: Sequence[Operation] | None = None,
    *,
    device: str = "cpu",
    samples: int = 8,
    seconds_each: float = 0.5,
    rounds: int = 2,
    progress: Callable[[str], Any] | None = None,
    command: str = "helpers.bench.operations.measure()",
) -> OperationsRun:
    """Time operations one after the other, in rounds.

    A machine that shares its memory with others changes within seconds. Going round several
    times spreads each operation's samples over the whole run, so that all meet the same changes.

    Parameters
    ----------
    ops : sequence of Operation, optional
        All of :func:`operations` by default.
    device : {"cpu", "cuda"}
        Where to run.
    samples : int
        Samples for each.
    seconds_each : float
        Time to aim for, for each.
    rounds : int
        How often to go round; each round takes its share of samples and time. One
        whose single call takes longer than ``seconds_each`` is left out after the first, such as
        bf16 on a processor that only imitates it.
    progress : callable, optional
        Receives the name of each.
    command : str
        What to state as the command.

    Returns
    -------
    OperationsRun
        All samples, with hardware and versions.
    """
    import torch

    if not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"rounds: {rounds!r} is not a whole number >= 1")
    start = time.perf_counter()
    measurements: dict[str, Measurement] = {}
    state = torch.get_rng_state()
    torch.manual_seed(0)
    chosen = list(ops) if ops is not None else operations()
    share = {"samples": max(3, samples // rounds), "max_total_s": seconds_each / rounds}
    try:
        for number in range(rounds):
            for op in chosen:
                if progress is not None and number == 0:
                    progress(op.name)
                before = measurements.get(op.name)
                if before is not None and before.median_s > seconds_each:
                    continue
                fresh = time_operation(op, device=device, **share)
                measurements[op.name] = together(before, fresh)
    finally:
        torch.set_rng_state(state)
    environment = current_environment()
    if device == "cpu":
        environment = environment.model_copy(update={"gpu": "", "gpu_driver": ""})
    return OperationsRun(
        environment=environment,
        device=device,
        created=date.today(),
        command=command,
        seconds_spent=round(time.perf_counter() - start, 1),
        threads=torch.get_num_threads(),
        measurements=measurements,
    )


# ---- comparison ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One operation: predicted beside measured."""

    operation: Operation
    prediction: Prediction
    measurement: Measurement
    card: MachineCard

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.name

    @property
    def ratio(self) -> float:
        """Measured over predicted: 1 is the bound, 2 is half the speed it allows."""
        return self.measurement.median_s / self.prediction.max_s

    @property
    def log2_ratio(self) -> float:
        """Error in powers of two."""
        return math.log2(self.ratio)

    @property
    def counts(self) -> bool:
        """Whether this is a prediction: the card was not built from it."""
        return not self.operation.built_the_card

    @property
    def inside(self) -> bool:
        """Whether the measured time lies between max and sum."""
        return self.prediction.max_s <= self.measurement.median_s <= self.prediction.sum_s

    @property
    def parts_s(self) -> dict[str, float]:
        """What the measured time is made of, in seconds; the parts add up to it.

        ``bound`` is the prediction. Of what is left, ``calls`` (dispatch), ``new pages`` and
        ``threads`` are priced by the card, ``no overlap`` is at most the shorter of the two
        terms, and ``unexplained`` is the rest, negative where the machine beat the bound.
        """
        left = self.measurement.median_s - self.prediction.max_s
        parts = {"bound": self.prediction.max_s}
        for name, most in (
            ("calls", self.prediction.dispatch_s),
            ("new pages", self.operation.fresh_bytes / 4096 * self.card.new_page_s),
            ("threads", self.operation.calls * self.card.thread_team_s),
            ("no overlap", self.prediction.sum_s - self.prediction.max_s),
        ):
            parts[name] = max(0.0, min(left, most))
            left -= parts[name]
        parts["unexplained"] = left
        return parts

    def explanation(self) -> str:
        """The residual in words, its largest parts first."""
        measured = self.measurement.median_s
        parts = self.parts_s
        shares = {name: s / measured for name, s in parts.items() if name != "bound"}
        if self.ratio < 1:
            within = abs(1 - self.ratio) <= 0.05 + self.measurement.spread
            if within:
                why = "within the noise of card and measurement"
            elif self.ratio < 1 - PLAUSIBLE_REST / 2:
                why = "a disturbed card or measurement?"
            else:
                why = "its streams overlap better than the probe's, one by one"
            return f"{1 - self.ratio:.0%} faster than the bound: {why}"
        words = {
            "calls": "the calls themselves",
            "new pages": "new pages for the output",
            "threads": "calling all threads",
            "no overlap": "arithmetic and transfers that do not overlap",
        }
        told = [
            f"{shares[name]:.0%} {words[name]}"
            for name in sorted(words, key=lambda n: -shares[n])
            if shares[name] >= 0.02
        ]
        rest = shares["unexplained"]
        if rest >= 0.05:
            # physics may be blamed only for what a quiet machine would show again
            spread = self.measurement.spread
            if rest > PLAUSIBLE_REST or spread > SMALL_SPREAD:
                remark = f" (a disturbed measurement? spread {spread:.0%})"
            else:
                remark = f" ({self.operation.remark})" if self.operation.remark else ""
            told.append(f"{rest:.0%} unexplained{remark}")
        return "; ".join(told) if told else "at the bound"


@dataclass(frozen=True)
class Comparison:
    """All rows, with the two numbers that say how good the model is."""

    rows: tuple[Row, ...]
    card: MachineCard
    run: OperationsRun

    @property
    def counting(self) -> tuple[Row, ...]:
        """Rows that are predictions."""
        return tuple(row for row in self.rows if row.counts)

    @property
    def median_abs_log2(self) -> float:
        """Median of |log2(measured / predicted)| over the rows that count."""
        return quantile([abs(row.log2_ratio) for row in self.counting], 0.5)

    @property
    def share_inside(self) -> float:
        """Share of the rows that count whose time lies between max and sum."""
        return sum(row.inside for row in self.counting) / len(self.counting)

    @property
    def drift(self) -> float | None:
        """Of the operations that built the card, the ratio farthest from one; None without any.

        They are no predictions. They tell whether the machine still is what the card says: near
        one it is, and far from one the other ratios speak of the change. The farthest one, since
        memory can slow down while arithmetic does not.
        """
        built = [row.ratio for row in self.rows if not row.counts]
        return max(built, key=lambda ratio: abs(math.log2(ratio))) if built else None

    @property
    def steady(self) -> bool:
        """Whether the operations that built the card repeat, within ``STEADY``."""
        return self.drift is None or STEADY[0] <= self.drift <= STEADY[1]

    def misses(self, powers_of_two: float = 0.5) -> tuple[Row, ...]:
        """Rows that count and are off by more than this, worst first.

        Parameters
        ----------
        powers_of_two : float
            0.5 is a factor of 1.41.
        """
        off = [row for row in self.counting if abs(row.log2_ratio) > powers_of_two]
        return tuple(sorted(off, key=lambda row: -abs(row.log2_ratio)))

    HEADINGS = (
        "operation",
        "FLOPs",
        "bytes",
        "FLOP/B",
        "lives in",
        "bound by",
        "max",
        "sum",
        "calls",
        "measured",
        "measured / max",
        "inside",
        "counts",
        "what the difference is",
    )

    def table(self) -> list[tuple[str, ...]]:
        """The rows as text, in the order of ``HEADINGS``."""
        lines = []
        for row in self.rows:
            op, p = row.operation, row.prediction
            lines.append(
                (
                    op.name,
                    _si(op.flops),
                    _si(op.moved_bytes),
                    f"{op.intensity:.3g}",
                    p.level,
                    p.bound_by,
                    format_seconds(p.max_s),
                    format_seconds(p.sum_s),
                    format_seconds(p.dispatch_s),
                    format_seconds(row.measurement.median_s),
                    f"{row.ratio:.2f}",
                    "yes" if row.inside else "no",
                    "yes" if row.counts else "built the card",
                    row.explanation(),
                )
            )
        return lines

    def warning(self) -> str:
        """What to do if the machine has changed since the card was measured; else nothing."""
        if self.steady:
            return ""
        busier = "is busier now" if self.drift > 1 else "was busier then"
        return (
            f"An operation that built the card runs {times(self.drift)} times as long as when it"
            f" was measured: the machine {busier}, or the card is old. Close other programs and"
            f" measure the card again ({AGAIN}); until then the last column says little."
        )

    def summary(self) -> str:
        """The median error and the share inside the interval; a second line if there is drift."""
        line = self._line()
        return f"{line}\n{self.warning()}" if not self.steady else line

    def _line(self) -> str:
        off = len(self.misses())
        if not self.counting:
            return f"no predictions on {self.card.label}: all of these operations built the card"
        return (
            f"{len(self.counting)} predictions on {self.card.label}: median"
            f" |log2(measured / predicted)| = {self.median_abs_log2:.2f},"
            f" {self.share_inside:.0%} inside [max, sum],"
            f" {off} off by more than a factor of {2**0.5:.2f}"
        )

    def __str__(self) -> str:
        table = [self.HEADINGS, *self.table()]
        widths = [max(len(line[i]) for line in table) for i in range(len(self.HEADINGS))]
        text = "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        )
        return f"{text}\n{self.summary()}"

    def __repr__(self) -> str:
        return f"<Comparison: {self._line()}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th scope='col'>{html.escape(h)}</th>" for h in self.HEADINGS)
        body = "".join(
            "<tr>"
            + f"<th scope='row'>{html.escape(line[0])}</th>"
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in line[1:])
            + "</tr>"
            for line in self.table()
        )
        return (
            '<div class="mb mb-comparison" style="overflow-x:auto" tabindex="0" role="region"'
            ' aria-label="Predicted against measured">'
            f"<table><caption>{html.escape(self.summary())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def times(ratio: float) -> str:
    """A factor as text, in two digits, or three of a large one.

    Parameters
    ----------
    ratio : float
        Positive.

    Examples
    --------
    >>> times(0.452), times(3.21), times(11666)
    ('0.45', '3.2', '11,700')
    """
    return f"{float(f'{ratio:.3g}'):,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _si(value: float) -> str:
    """A count with a decimal prefix: ``1.23 G``."""
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g}"


def compare(
    card: MachineCard,
    run: OperationsRun | None = None,
    ops: Sequence[Operation] | None = None,
) -> Comparison:
    """Predicted against measured, operation by operation.

    Parameters
    ----------
    card : MachineCard
        Sets the bounds.
    run : OperationsRun, optional
        The measured times; measured now if not given.
    ops : sequence of Operation, optional
        Which ones; all that both the card's dtypes and the run cover by default.

    Returns
    -------
    Comparison
        Rows, the median error, the share inside [max, sum].

    Raises
    ------
    ValueError
        If there is nothing to compare, or the run is of another machine than the card.
    """
    ops = list(ops) if ops is not None else operations()
    ops = [op for op in ops if op.dtype in card.dtypes]
    if run is None:
        run = measure(ops, device=card.device)
    if not run.environment.same_hardware(card.environment):
        raise ValueError(
            f"run: measured on {run.environment.label}, but the card is of {card.label}"
        )
    rows = tuple(
        Row(op, predict(op, card), run.measurements[op.name], card)
        for op in ops
        if op.name in run.measurements
    )
    if not rows:
        raise ValueError("run: holds none of the operations asked for")
    return Comparison(rows, card, run)


def check_card(card: MachineCard, *, seconds_each: float = 0.3) -> Comparison:
    """Run the operations that built a card once more: do they still take as long?

    Parameters
    ----------
    card : MachineCard
        The one to check.
    seconds_each : float
        Time to aim for, for each of the three.

    Returns
    -------
    Comparison
        Its ``drift`` and ``warning()`` tell.
    """
    built = [op for op in operations() if op.built_the_card and op.dtype in card.dtypes]
    run = measure(built, device=card.device, samples=5, seconds_each=seconds_each)
    return compare(card, run, built)


def bound_table(card: MachineCard, ops: Sequence[Operation] | None = None) -> Mapping[str, float]:
    """Predicted seconds by operation: to be written down before anything is measured.

    Parameters
    ----------
    card : MachineCard
        Sets the bounds.
    ops : sequence of Operation, optional
        All by default.
    """
    ops = ops if ops is not None else operations()
    return {op.name: predict(op, card).max_s for op in ops if op.dtype in card.dtypes}
