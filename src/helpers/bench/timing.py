"""Honest timing: warm up, repeat inside a sample, take several samples, keep them all.

A single run says nothing about its own error. Every timing here is a :class:`Measurement`: all
samples with their median and the distance between the quartiles, the threads it ran on and how
often a sample repeated the call. The median is used because the noise of a computer is one-sided:
a sample can be delayed by anything, and is never too fast by much.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

#: a sample lasts at least this many times the clock's own step
CLOCK_STEPS_PER_SAMPLE = 1_000


def round_significant(value: float, digits: int = 4) -> float:
    """Round to significant digits: what a timing can carry, and short in a file.

    Parameters
    ----------
    value : float
        Any finite number.
    digits : int
        Significant digits kept.

    Examples
    --------
    >>> round_significant(0.00123456)
    0.001235
    """
    return float(f"{value:.{digits - 1}e}")


def quantile(values: Sequence[float], share: float) -> float:
    """Value below which a given share of the samples lies, linear between neighbours.

    Parameters
    ----------
    values : sequence of float
        The samples, in any order.
    share : float
        0 for the least, 0.5 for the median, 1 for the greatest.

    Examples
    --------
    >>> quantile([4.0, 1.0, 3.0, 2.0], 0.5)
    2.5
    """
    if not values:
        raise ValueError("values: no samples")
    if not 0 <= share <= 1:
        raise ValueError(f"share: {share!r} is not between 0 and 1")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


class Measurement(BaseModel):
    """All samples of one timing, in seconds per call.

    Attributes
    ----------
    name : str
        What was timed.
    samples_s : tuple of float
        Seconds per call, one for each sample, in the order taken.
    calls_per_sample : int
        How often a sample repeated the call; its time is divided by this.
    threads : int
        Threads that the library was allowed.
    device : str
        ``"cpu"`` or ``"cuda"``.
    cold : bool
        Whether the caches were emptied before each sample.

    Examples
    --------
    >>> m = Measurement(name="x", samples_s=(1.0, 3.0, 2.0))
    >>> m.median_s, m.iqr_s
    (2.0, 1.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    samples_s: tuple[float, ...] = Field(min_length=1)
    calls_per_sample: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    device: str = "cpu"
    cold: bool = False

    @field_validator("samples_s")
    @classmethod
    def _positive(cls, samples: tuple[float, ...]) -> tuple[float, ...]:
        for sample in samples:
            if not (math.isfinite(sample) and sample > 0):
                raise ValueError(f"samples_s: {sample!r} is not a positive number of seconds")
        return samples

    @property
    def median_s(self) -> float:
        """Median seconds per call."""
        return quantile(self.samples_s, 0.5)

    @property
    def iqr_s(self) -> float:
        """Distance between the quartiles, in seconds: the middle half of the samples spans it."""
        return quantile(self.samples_s, 0.75) - quantile(self.samples_s, 0.25)

    @property
    def spread(self) -> float:
        """Distance between the quartiles as a share of the median."""
        return self.iqr_s / self.median_s

    def rounded(self, digits: int = 4) -> Measurement:
        """The same measurement with its samples rounded to significant digits.

        Parameters
        ----------
        digits : int
            Significant digits kept.
        """
        samples = tuple(round_significant(s, digits) for s in self.samples_s)
        return self.model_copy(update={"samples_s": samples})

    def __str__(self) -> str:
        return (
            f"{self.name}: {format_seconds(self.median_s)} (quartiles {format_seconds(self.iqr_s)}"
            f" apart, {len(self.samples_s)} samples, {self.threads} threads)"
        )


def format_seconds(seconds: float) -> str:
    """A duration with the unit that suits it.

    Parameters
    ----------
    seconds : float
        Duration in seconds.

    Examples
    --------
    >>> format_seconds(0.00213), format_seconds(0.507), format_seconds(4.5e-8)
    ('2.13 ms', '507 ms', '45.0 ns')
    """
    seconds = round_significant(seconds, 3)  # first, so that 999.9 ms becomes a second
    if abs(seconds) >= 1000:
        return f"{seconds:,.0f} s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if abs(seconds) >= scale or unit == "ns":
            break
    # three digits, without the point that would end a whole number
    return f"{seconds / scale:#.3g}".rstrip(".") + f" {unit}"


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads inside the block, and put the old number back after it.

    Parameters
    ----------
    threads : int
        At least 1.
    """
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads: {threads!r} is not an integer of at least 1")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_FLUSH_BUFFERS: dict[int, Any] = {}


def flush_caches(flush_bytes: int) -> None:
    """Push everything else out of the caches by walking over a buffer larger than them.

    Parameters
    ----------
    flush_bytes : int
        Size of the buffer, at least twice the last-level cache to be of use.
    """
    import numpy

    buffer = _FLUSH_BUFFERS.get(flush_bytes)
    if buffer is None:
        _FLUSH_BUFFERS.clear()  # keep one buffer, not one of each size
        buffer = _FLUSH_BUFFERS[flush_bytes] = numpy.ones(flush_bytes // 8)
    buffer += 1.0


def clock_step_s() -> float:
    """Smallest step that the clock shows, in seconds (never below what it promises)."""
    steps = []
    for _ in range(50):
        start = time.perf_counter_ns()
        now = start
        while now == start:
            now = time.perf_counter_ns()
        steps.append(now - start)
    return max(min(steps) * 1e-9, time.get_clock_info("perf_counter").resolution)


def _threads_now() -> int:
    import sys

    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else 1


def time_call(
    function: Callable[..., Any],
    *,
    name: str = "call",
    arguments: Sequence[tuple] = ((),),
    samples: int = 7,
    min_sample_s: float = 5e-3,
    max_total_s: float = 2.0,
    warmups: int = 2,
    flush_bytes: int = 0,
    threads: int | None = None,
) -> Measurement:
    """Time a function on the CPU.

    Parameters
    ----------
    function : callable
        What to time.
    name : str
        Its name in the result.
    arguments : sequence of tuple
        Argument tuples that the calls take in turn: several copies of the data, larger together
        than a cache, keep that cache from helping. One empty tuple by default.
    samples : int
        How many samples to take, at least 3.
    min_sample_s : float
        A sample repeats the call until it lasts this long, so that the clock's step and the loop
        around the call do not count.
    max_total_s : float
        Aim for at most this long in all: fewer samples (never under 3) of a slow function.
    warmups : int
        Calls before the first sample; they pay for pages, caches and lazy set-up. No further one
        once they have taken ``max_total_s``.
    flush_bytes : int
        With a size, each sample is a single call with the caches emptied before it.
    threads : int, optional
        What to state as thread count; torch's setting by default.

    Returns
    -------
    Measurement
        Seconds per call.

    Raises
    ------
    ValueError
        For fewer than 3 samples, no arguments, or a time that is not positive.

    Examples
    --------
    >>> time_call(lambda: sum(range(1000)), samples=3, min_sample_s=1e-4).median_s > 0
    True
    """
    if samples < 3:
        raise ValueError(f"samples: {samples!r} is fewer than 3, so there is no spread to see")
    if min_sample_s <= 0 or max_total_s <= 0:
        bad = "min_sample_s" if min_sample_s <= 0 else "max_total_s"
        raise ValueError(f"{bad}: must be a positive number of seconds")
    if not arguments:
        raise ValueError("arguments: empty; give at least one tuple, () for a call without any")

    turn = itertools.cycle(arguments)
    begun = time.perf_counter()
    for _ in range(max(1, warmups)):
        function(*next(turn))
        if time.perf_counter() - begun > max_total_s:
            break  # nothing that takes so long is still cold

    def sample(calls: int) -> float:
        chosen = [next(turn) for _ in range(calls)]
        start = time.perf_counter_ns()
        for args in chosen:
            function(*args)
        return (time.perf_counter_ns() - start) * 1e-9

    with _no_garbage_collection():
        calls = 1
        elapsed = sample(1)
        if not flush_bytes:
            target_s = max(min_sample_s, CLOCK_STEPS_PER_SAMPLE * clock_step_s())
            while elapsed < target_s:
                # aim a little high, grow at most tenfold: the first estimate may be far off
                growth = min(10.0, 1.2 * target_s / max(elapsed, 1e-9))
                calls = max(calls + 1, math.ceil(calls * growth))
                elapsed = sample(calls)
        samples = max(3, min(samples, int(max_total_s / max(elapsed, 1e-9))))
        times = []
        for _ in range(samples):
            if flush_bytes:
                flush_caches(flush_bytes)
            times.append(max(sample(calls) / calls, 1e-10))
    return Measurement(
        name=name,
        samples_s=tuple(times),
        calls_per_sample=calls,
        threads=threads if threads is not None else _threads_now(),
        cold=bool(flush_bytes),
    )


def rotating_copies(bytes_each: int, cache_bytes: int, *, factor: float = 3.0) -> int:
    """How many copies of the data to take in turn so that a cache cannot keep any of them.

    Parameters
    ----------
    bytes_each : int
        Bytes that one call touches.
    cache_bytes : int
        Size of the cache, such as a GPU's L2.
    factor : float
        All copies together are at least this many times the cache.

    Returns
    -------
    int
        At least 1, at most 64.

    Examples
    --------
    >>> rotating_copies(20_000_000, 50_000_000)
    8
    """
    if bytes_each < 1:
        raise ValueError(f"bytes_each: {bytes_each!r} is not at least 1 byte")
    return max(1, min(64, math.ceil(factor * cache_bytes / bytes_each)))


def time_cuda(
    function: Callable[..., Any],
    *,
    name: str = "kernel",
    arguments: Sequence[tuple] = ((),),
    samples: int = 9,
    min_sample_s: float = 5e-3,
    warmups: int = 5,
) -> Measurement:
    """Time work on the GPU with CUDA events.

    A launch returns before the GPU has done anything, so a wall clock around it times the launch.
    Two events recorded in the stream around many launches time the work itself; we wait for the
    second one before reading them.

    Parameters
    ----------
    function : callable
        Launches the work.
    name : str
        Its name in the result.
    arguments : sequence of tuple
        Argument tuples taken in turn; together larger than the L2 cache (see
        :func:`rotating_copies`) unless a warm L2 is what is asked for.
    samples, min_sample_s, warmups
        As in :func:`time_call`.

    Returns
    -------
    Measurement
        Seconds per call, device ``"cuda"``.

    Raises
    ------
    RuntimeError
        If torch sees no CUDA device.
    """
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("time_cuda: torch sees no CUDA device; use time_call on a CPU")
    if samples < 3:
        raise ValueError(f"samples: {samples!r} is fewer than 3, so there is no spread to see")
    turn = itertools.cycle(arguments)
    for _ in range(max(1, warmups)):
        function(*next(turn))
    torch.cuda.synchronize()

    def sample(calls: int) -> float:
        chosen = [next(turn) for _ in range(calls)]
        start = torch.cuda.Event(enable_timing=True)
        stop = torch.cuda.Event(enable_timing=True)
        start.record()
        for args in chosen:
            function(*args)
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) * 1e-3  # milliseconds to seconds

    calls, elapsed = 1, sample(1)
    while elapsed < min_sample_s:
        growth = min(10.0, 1.2 * min_sample_s / max(elapsed, 1e-6))
        calls = max(calls + 1, math.ceil(calls * growth))
        elapsed = sample(calls)
    times = tuple(max(sample(calls) / calls, 1e-10) for _ in range(samples))
    return Measurement(name=name, samples_s=times, calls_per_sample=calls, threads=1, device="cuda")
