"""Measure the machine: ``python -m helpers.bench.probe`` writes a machine card.

The quick probe takes about 15 seconds, the full one at most about 60: on a machine that is busy
with something else, what a card can do without is left out once the time is up. Both measure, with
all threads and with one: four memory patterns over working sets from the first cache to several
times the last one, square matrix multiplications in every dtype the machine multiplies at a useful
rate, and what a call costs that does nothing. Close other programs first: a probe can only measure
what the machine has left over.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from typing import Any

from helpers.bench import operations
from helpers.bench.environment import current_environment
from helpers.bench.machine import ARRAYS, BUSY, BandwidthPoint, MachineCard, MatmulPoint
from helpers.bench.storage import load_card, save_card
from helpers.bench.timing import (
    Measurement,
    rotating_copies,
    round_significant,
    time_call,
    time_cuda,
    torch_threads,
)

KIB, MIB = 2**10, 2**20

#: seconds the probe aims for, and working-set sizes, in its two forms
QUICK_S, FULL_S = 15.0, 60.0
#: share of that time by which each part should have ended; what is late is cut short
ENDS = {
    "bandwidth, all threads": 0.42,
    "matmul, all threads": 0.72,
    "bandwidth, 1 thread": 0.84,
    "matmul, 1 thread": 0.94,
    "numpy": 1.0,
}
#: a dtype that multiplies below this rate is not worth a reader's minute
USEFUL_FLOP_PER_S = 5e9


class Progress:
    """One line that says how far the probe is; silent if ``write`` is None."""

    def __init__(self, write: Callable[[str], Any] | None, total_s: float) -> None:
        self._write = write
        self._start = time.perf_counter()
        self._total_s = total_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def say(self, what: str) -> None:
        """Show what is being measured now."""
        if self._write is not None:
            self._write(f"[{self.elapsed_s:4.0f} s of about {self._total_s:.0f} s] {what}")

    def late(self, part: str) -> bool:
        """Whether a part (one of ``ENDS``) should have ended by now."""
        return self.elapsed_s > ENDS[part] * self._total_s


def _need_torch() -> Any:
    try:
        import torch
    except ImportError:
        raise RuntimeError(
            "the probe needs torch, which is not installed:"
            " https://pytorch.org/get-started/locally/ has the command for your machine"
        ) from None
    return torch


def working_set_sizes(
    last_level_cache_bytes: int, memory_bytes: int, *, quick: bool = True
) -> list[int]:
    """Sizes from the first cache to several times the last one.

    Parameters
    ----------
    last_level_cache_bytes : int
        Size of the last-level cache; 0 if unknown (32 MiB is taken).
    memory_bytes : int
        Main memory; the largest size stays under 1/16 of it. 0 if unknown.
    quick : bool
        A factor of four between sizes, or of two (and to twice the size).

    Returns
    -------
    list of int
        Ascending, each a multiple of 96 so that one, two and three arrays fit.

    Examples
    --------
    >>> [round(size / 2**10) for size in working_set_sizes(32 * 2**20, 2**35)][:4]
    [32, 128, 512, 2048]
    """
    llc = last_level_cache_bytes or 32 * MIB
    limit = 4 * llc if quick else 8 * llc
    limit = min(max(limit, 128 * MIB), 1024 * MIB)
    if memory_bytes:
        limit = min(limit, max(memory_bytes // 16, 64 * MIB))
    sizes, size = [], 32 * KIB
    while size < limit:
        sizes.append(size)
        # the steps down from the last cache are where a coarse grid would lie most
        size *= 4 if quick and size * 4 <= llc / 2 else 2
    sizes.append(limit)
    return [size // 96 * 96 for size in dict.fromkeys(sizes)]


def _torch_patterns(working_set_bytes: int, device: str) -> dict[str, Callable[[], Any]]:
    """The four patterns on freshly made fp32 arrays."""
    import torch

    def array(pattern: str) -> Any:
        return torch.ones(max(1, working_set_bytes // ARRAYS[pattern] // 4), device=device)

    def read() -> Callable[[], Any]:
        x, y = array("read"), array("read")
        return lambda: torch.dot(x, y)

    def update() -> Callable[[], Any]:
        x = array("update")
        return lambda: x.mul_(-1.0)  # minus one: the values neither grow nor vanish

    def copy() -> Callable[[], Any]:
        x, y = array("copy"), array("copy")
        return lambda: y.copy_(x)

    def triad() -> Callable[[], Any]:
        x, y, z = array("triad"), array("triad"), array("triad")
        return lambda: torch.add(x, y, alpha=2.0, out=z)

    return {"read": read, "update": update, "copy": copy, "triad": triad}


def _numpy_patterns(working_set_bytes: int) -> dict[str, Callable[[], Any]]:
    """The same with numpy, which runs them on one thread and costs less per call."""
    import numpy as np

    def array(pattern: str) -> Any:
        return np.ones(max(1, working_set_bytes // ARRAYS[pattern] // 4), dtype=np.float32)

    def read() -> Callable[[], Any]:
        # not a dot product: numpy's goes to a BLAS that may use several threads
        x = np.ones(max(1, working_set_bytes // 4), dtype=np.float32)
        return lambda: x.max()

    def copy() -> Callable[[], Any]:
        x, y = array("copy"), array("copy")
        return lambda: np.copyto(y, x)

    def triad() -> Callable[[], Any]:
        # numpy has no fused x + s * y: an addition moves the same bytes
        x, y, z = array("triad"), array("triad"), array("triad")
        return lambda: np.add(x, y, out=z)

    return {"read": read, "copy": copy, "triad": triad}


def _needed_first(sizes: list[int]) -> list[int]:
    """The sizes in the order in which a card needs them: memory, the first cache, one between.

    Examples
    --------
    >>> _needed_first([2**15, 2**18, 2**21, 2**24, 2**27])
    [134217728, 32768, 2097152, 262144, 16777216]
    """
    between = min(sizes, key=lambda size: abs(size - 2 * MIB))
    return list(dict.fromkeys([sizes[-1], sizes[0], between, *sizes]))


#: how many of these a card cannot do without
NEEDED_SIZES = 3


def _bandwidth(
    sizes: list[int],
    library: str,
    threads: int,
    *,
    samples: int,
    sample_s: float,
    budget_s: float,
    late: Callable[[], bool],
) -> Iterator[BandwidthPoint]:
    make = _numpy_patterns if library == "numpy" else lambda size: _torch_patterns(size, "cpu")
    each_s = budget_s / (len(sizes) * len(make(32 * KIB)))
    call_s = {}
    for pattern, build in make(4).items():
        timing = time_call(build(), samples=samples, min_sample_s=sample_s)
        call_s[pattern] = timing.median_s
    for done, size in enumerate(_needed_first(sizes)):
        if done >= NEEDED_SIZES and late():
            return
        for pattern, build in make(size).items():
            measurement = time_call(
                build(),
                name=pattern,
                samples=3 if late() else samples,
                min_sample_s=min(sample_s, each_s / (samples + 2)),
                max_total_s=each_s,
                threads=threads,
            )
            yield BandwidthPoint(
                pattern=pattern,
                library=library,
                working_set_bytes=size,
                call_s=call_s[pattern],
                measurement=measurement,
            )


def _matmul_call(dtype: str, n: int, device: str) -> Callable[[], Any]:
    """A square matrix multiplication, n x n by n x n, in one dtype."""
    import torch

    if dtype == "int8":
        a = torch.randint(-127, 128, (n, n), dtype=torch.int8, device=device)
        b = torch.randint(-127, 128, (n, n), dtype=torch.int8, device=device)
        return lambda: torch._int_mm(a, b)  # int8 x int8 accumulated in int32
    kinds = {
        "fp32": torch.float32,
        "tf32": torch.float32,
        "fp64": torch.float64,
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
    }
    a = torch.randn(n, n, device=device).to(kinds[dtype])
    b = torch.randn(n, n, device=device).to(kinds[dtype])
    c = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=c)


def _matmul(
    dtypes: tuple[str, ...],
    sizes: tuple[int, ...],
    threads: int,
    *,
    samples: int,
    budget_s: float,
    late: Callable[[], bool],
) -> Iterator[MatmulPoint]:
    each_s = budget_s / (len(dtypes) * len(sizes))
    for dtype in dtypes:
        rate = 0.0
        for n in sizes:
            if late() and (rate or dtype != "fp32"):
                break  # one fp32 rate is all that a card needs
            if rate and 3 * 2 * n**3 / rate > 2 * each_s:
                break  # three samples of the next size would not fit
            try:
                call = _matmul_call(dtype, n, "cpu")
                start = time.perf_counter()
                call()
                first_s = time.perf_counter() - start
            except (RuntimeError, AttributeError, TypeError):
                break  # this machine or this torch does not multiply the dtype
            if first_s > each_s and (rate or dtype != "fp32"):
                break
            measurement = time_call(
                call,
                name=f"matmul {dtype} {n}",
                samples=samples,
                min_sample_s=min(0.03, each_s / (samples + 2)),
                max_total_s=each_s,
                threads=threads,
            )
            point = MatmulPoint(dtype=dtype, m=n, k=n, n=n, measurement=measurement)
            rate = point.flop_per_s
            if rate < USEFUL_FLOP_PER_S and dtype != "fp32":
                break
            yield point


#: a size that sits in a cache and is large enough for all threads to take part
EXPONENTIALS = 2**19


def _exponential(samples: int, device: str = "cpu") -> Measurement:
    import torch

    x = torch.rand(EXPONENTIALS, device=device)
    y = torch.empty_like(x)
    if device == "cuda":
        return time_cuda(lambda: torch.exp2(x, out=y), name="exp2", samples=samples)
    # base two, as the hardware and fast softmax kernels do it: exp(x) = exp2(x * log2(e))
    return time_call(lambda: torch.exp2(x, out=y), name="exp2", samples=samples)


def _thread_team_s(samples: int, threads: int) -> float:
    """What all threads add to a call: the same work on all, less its share on one."""
    import torch

    if threads == 1:
        return 0.0
    x = torch.ones(2**16)
    y = torch.empty_like(x)
    call = lambda: torch.add(x, 1.0, out=y)  # noqa: E731 (a timed expression)
    together = time_call(call, samples=samples).median_s
    with torch_threads(1):
        alone = time_call(call, samples=samples).median_s
    return max(0.0, together - alone / threads)


def _new_page_s(samples: int) -> float:
    """Cost of the first touch of 4 KiB: the system has to find, clear and map the page."""
    import torch

    # larger than what an allocator keeps for later, so that each call gets new pages
    elements = 64 * MIB // 4
    kept = torch.ones(elements)
    fresh = time_call(lambda: torch.ones(elements), samples=samples, min_sample_s=0.01)
    again = time_call(lambda: kept.fill_(1.0), samples=samples, min_sample_s=0.01)
    pages = 64 * MIB / 4096
    return max(0.0, (fresh.median_s - again.median_s) / pages)


def _overheads(samples: int) -> dict[str, Measurement]:
    import numpy as np
    import torch

    def nothing() -> None:
        return None

    a = np.ones(1, dtype=np.float32)
    x = torch.ones(1)
    calls = {
        "python call": nothing,
        "numpy add": lambda: np.add(a, a),
        "torch add": lambda: torch.add(x, x),
    }
    return {
        name: time_call(call, name=name, samples=samples, min_sample_s=0.01, threads=1)
        for name, call in calls.items()
    }


def probe(
    quick: bool = True,
    *,
    device: str = "cpu",
    progress: Callable[[str], Any] | None = print,
    budget_s: float | None = None,
) -> MachineCard:
    """Measure this machine.

    Parameters
    ----------
    quick : bool
        About 15 seconds, or the full probe of at most 60.
    device : {"cpu", "cuda"}
        Which part of the machine to measure.
    progress : callable, optional
        Receives a line now and then; None for silence.
    budget_s : float, optional
        Another time to aim for, in seconds; fewer or shorter samples make up the difference, and
        sizes and data types that a card can do without are left out when it is over.

    Returns
    -------
    MachineCard
        Not saved: see :func:`helpers.bench.storage.save_card`.

    Raises
    ------
    RuntimeError
        If torch is missing, or has no CUDA device and one is asked for.
    ValueError
        For an unknown device.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: {device!r} is not one of cpu, cuda")
    torch = _need_torch()
    if device == "cuda":
        return _probe_cuda(quick, progress)

    total_s = budget_s or (QUICK_S if quick else FULL_S)
    say = Progress(progress, total_s)
    share = 0.85 * total_s  # the rest goes into making the arrays and warming up
    samples = 5 if quick else 9
    environment = current_environment()
    threads = torch.get_num_threads()
    sizes = working_set_sizes(
        max(environment.cache_bytes.values(), default=0), environment.memory_bytes, quick=quick
    )
    generator_state = torch.get_rng_state()
    torch.manual_seed(0)
    points: list[BandwidthPoint] = []
    matmuls: list[MatmulPoint] = []
    try:
        with torch.inference_mode():
            say.say("what a call costs")
            overheads = _overheads(samples)
            exponential = _exponential(samples)
            thread_team_s = _thread_team_s(samples, threads)
            new_page_s = _new_page_s(samples)
            for count in sorted({threads, 1}, reverse=True):
                with torch_threads(count):
                    part = 0.3 if count == threads else 0.12
                    which = "all threads" if count == threads else "1 thread"
                    say.say(f"memory bandwidth, {count} thread{'s' * (count > 1)}")
                    points += _bandwidth(
                        sizes,
                        "torch",
                        count,
                        samples=samples,
                        sample_s=0.01,
                        budget_s=part * share,
                        late=partial(say.late, f"bandwidth, {which}"),
                    )
                    say.say(f"matrix multiplication, {count} thread{'s' * (count > 1)}")
                    matmuls += _matmul(
                        ("fp32", "bf16", "fp64", "int8", "fp16"),
                        (256, 512, 1024, 2048) if quick else (128, 256, 512, 1024, 2048, 3072),
                        count,
                        samples=samples,
                        budget_s=part * share,
                        late=partial(say.late, f"matmul, {which}"),
                    )
            if not say.late("numpy"):
                say.say("memory bandwidth, numpy, 1 thread")
                points += _bandwidth(
                    [16 * KIB // 96 * 96, *sizes],
                    "numpy",
                    1,
                    samples=samples,
                    sample_s=0.005,
                    budget_s=0.1 * share,
                    late=partial(say.late, "numpy"),
                )
    finally:
        torch.set_rng_state(generator_state)
    card = MachineCard(
        # a card of the processor: its GPU, if any, has a card of its own
        environment=environment.model_copy(update={"gpu": "", "gpu_driver": ""}),
        device="cpu",
        created=date.today(),
        command="python -m helpers.bench.probe" + ("" if quick else " --full"),
        quick=quick,
        seconds_spent=round(say.elapsed_s, 1),
        threads=threads,
        bandwidth=tuple(_rounded(p) for p in points),
        matmul=tuple(_rounded(p) for p in matmuls),
        overheads={name: m.rounded() for name, m in overheads.items()},
        exponential=exponential.rounded(),
        exponential_elements=EXPONENTIALS,
        thread_team_s=round_significant(thread_team_s),
        new_page_s=round_significant(new_page_s),
    )
    _say_done(say, card)
    return card


def _say_done(say: Progress, card: MachineCard) -> None:
    """The last line of a probe: how far to trust it."""
    say.say(f"done; median spread {card.median_spread:.0%}" + (f"; {BUSY}" if card.busy else ""))


def my_card(
    again: bool = False, *, quick: bool = True, progress: Callable[[str], Any] | None = print
) -> MachineCard:
    """The card of this machine: the saved one if it still holds, else a new one, which is saved.

    A saved card is tried before it is used: the operations that built it run once more, in about a
    second. If they do not take as long as they did, the card is measured again, once.

    Parameters
    ----------
    again : bool
        Measure even if a card was saved.
    quick : bool
        As in :func:`probe`.
    progress : callable, optional
        Receives what is going on, line by line; None for silence.

    Returns
    -------
    MachineCard
    """
    say = progress or (lambda line: None)
    if not again:
        found = load_card()
        say(found.message)
        if found.card is not None:
            checked = operations.check_card(found.card)
            if checked.steady:
                return found.card
            say(
                "An operation that built the card now runs"
                f" {operations.times(checked.drift)} times as long as when it was measured, so it"
                " is measured again, once:"
            )
    card = probe(quick, progress=progress)
    say(save_card(card))
    return card


def _rounded(point: Any) -> Any:
    """The same point with its samples rounded to what a timing can carry."""
    update: dict[str, Any] = {"measurement": point.measurement.rounded()}
    if isinstance(point, BandwidthPoint):
        update["call_s"] = round_significant(point.call_s)
    return point.model_copy(update=update)


def _probe_cuda(quick: bool, progress: Callable[[str], Any] | None) -> MachineCard:
    """The same for a GPU: events instead of a clock, data rotated so that the L2 cannot help."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("device: 'cuda' asked for, but torch sees no CUDA device")
    say = Progress(progress, QUICK_S if quick else FULL_S)
    samples = 5 if quick else 9
    properties = torch.cuda.get_device_properties(0)
    l2_bytes = getattr(properties, "L2_cache_size", 0) or 64 * MIB
    environment = current_environment()
    sizes, size = [], 256 * KIB
    while size <= min(4096 * MIB, properties.total_memory // 8):
        sizes.append(size // 96 * 96)
        size *= 4 if quick else 2

    say.say("what a launch costs")
    x = torch.ones(1, device="cuda")
    overheads = _overheads(samples)
    # many launches of a kernel with nothing to do: the GPU waits for the CPU, so events show
    # the time between launches
    overheads["kernel launch"] = time_cuda(lambda: torch.add(x, x), samples=samples)

    points: list[BandwidthPoint] = []
    say.say("device bandwidth")
    with torch.inference_mode():
        exponential = _exponential(samples, "cuda")
        for size in sizes:
            for pattern in ARRAYS:
                # beyond a third of the L2, take copies in turn; below it a warm L2 is the point
                copies = rotating_copies(size, l2_bytes) if size > l2_bytes / 3 else 1
                calls = [(_torch_patterns(size, "cuda")[pattern](),) for _ in range(copies)]
                measurement = time_cuda(
                    lambda call: call(), name=pattern, arguments=calls, samples=samples
                )
                points.append(
                    BandwidthPoint(pattern=pattern, working_set_bytes=size, measurement=measurement)
                )
        matmuls: list[MatmulPoint] = []
        before = torch.backends.cuda.matmul.allow_tf32
        try:
            for dtype in ("fp32", "tf32", "fp64", "bf16", "fp16", "int8"):
                say.say(f"matrix multiplication, {dtype}")
                torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
                for n in (2048, 4096, 8192) if quick else (1024, 2048, 4096, 8192, 16384):
                    try:
                        call = _matmul_call(dtype, n, "cuda")
                        measurement = time_cuda(
                            call, name=f"matmul {dtype} {n}", samples=samples, warmups=3
                        )
                    except (RuntimeError, AttributeError, TypeError):
                        break
                    matmuls.append(MatmulPoint(dtype=dtype, m=n, k=n, n=n, measurement=measurement))
                    if measurement.median_s > 0.2:
                        break  # the next size takes eight times as long
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
    caches = {"L2": l2_bytes}
    card = MachineCard(
        environment=environment.model_copy(update={"cache_bytes": caches}),
        device="cuda",
        created=date.today(),
        command="python -m helpers.bench.probe --gpu" + ("" if quick else " --full"),
        quick=quick,
        seconds_spent=round(say.elapsed_s, 1),
        threads=1,
        bandwidth=tuple(_rounded(p) for p in points),
        matmul=tuple(_rounded(p) for p in matmuls),
        overheads={name: m.rounded() for name, m in overheads.items()},
        exponential=exponential.rounded(),
        exponential_elements=EXPONENTIALS,
    )
    _say_done(say, card)
    return card


def main(arguments: list[str] | None = None) -> int:
    """Run the probe from the command line.

    Parameters
    ----------
    arguments : list of str, optional
        ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0, or 1 with a message if the probe cannot run.
    """
    parser = argparse.ArgumentParser(
        prog="moving-bytes probe",
        description="Measure this machine and save its card. Close other programs first.",
    )
    parser.add_argument("--full", action="store_true", help="finer and longer: up to 60 seconds")
    parser.add_argument("--gpu", action="store_true", help="measure the first CUDA device")
    parser.add_argument("--show", action="store_true", help="show the saved card, measure nothing")
    options = parser.parse_args(arguments)
    device = "cuda" if options.gpu else "cpu"
    if options.show:
        found = load_card(device)
        summary = "\n" + found.card.summary() if found.card is not None else ""
        print(found.message + summary)
        return 0 if found.card is not None else 1
    try:
        card = probe(quick=not options.full, device=device)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print()
    print(card.summary())
    print(save_card(card))
    return 0


if __name__ == "__main__":
    sys.exit(main())
