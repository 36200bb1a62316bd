"""The machine card: what a machine was measured to do, as data that predicts.

A card holds samples, not conclusions. From them it answers three questions: how many FLOP/s at
most (:meth:`MachineCard.peak`), how many seconds a byte of a given stream costs when the data of
an operation have a given size (:meth:`MachineCard.seconds_per_byte`), and what one call costs
before it does anything (:attr:`MachineCard.dispatch_s`).

Three kinds of stream are told apart, because they cost differently:

read
    bytes that are only read
update
    bytes that are read and written back in place
write
    bytes of a fresh output. Below the last-level cache a store costs about as much as a load. In
    main memory a processor usually fetches a line before it overwrites it (*write allocate*), so
    that a written byte moves twice.

The first two are measured directly; the third is what a copy takes beyond its reads.
"""

from __future__ import annotations

import html
import math
from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from helpers.bench.environment import Environment
from helpers.bench.timing import Measurement, format_seconds, quantile

SCHEMA_VERSION = 1

#: a median spread above this says that the machine was doing something else as well
LARGE_SPREAD = 0.2
BUSY = "spreads are large: the machine was busy"

Pattern = Literal["read", "update", "copy", "triad"]
Stream = Literal["read", "update", "write"]

#: bytes that a pattern moves, as multiples of (one array's bytes)
ARRAY_PASSES: dict[str, int] = {"read": 2, "update": 2, "copy": 2, "triad": 3}
#: arrays that a pattern touches: its working set
ARRAYS: dict[str, int] = {"read": 2, "update": 1, "copy": 2, "triad": 3}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BandwidthPoint(_Record):
    """One pattern at one working-set size.

    Attributes
    ----------
    pattern : {"read", "update", "copy", "triad"}
        ``s = x . y`` (numpy: ``max(x)``); ``x *= s``; ``y = x``; ``z = x + s * y``.
    library : str
        ``"torch"`` or ``"numpy"``.
    working_set_bytes : int
        Bytes of all arrays together.
    call_s : float
        What the same call takes on a single element: subtracted, so that the point speaks of
        memory and not of Python.
    measurement : Measurement
        Seconds per call.
    """

    pattern: Pattern
    library: Literal["torch", "numpy"] = "torch"
    working_set_bytes: int = Field(gt=0)
    call_s: float = Field(default=0.0, ge=0)
    measurement: Measurement

    @property
    def moved_bytes(self) -> float:
        """Bytes read and written by the program's own count (no write-allocate traffic)."""
        return self.working_set_bytes * ARRAY_PASSES[self.pattern] / ARRAYS[self.pattern]

    @property
    def net_s(self) -> float:
        """Seconds per call without what the call costs by itself."""
        return max(self.measurement.median_s - self.call_s, 0.05 * self.measurement.median_s)

    @property
    def trusted(self) -> bool:
        """Whether at least a third of the time was spent on the data."""
        return self.measurement.median_s - self.call_s >= self.measurement.median_s / 3

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Moved bytes per second."""
        return self.moved_bytes / self.net_s


class MatmulPoint(_Record):
    """A matrix multiplication (m, k) x (k, n) in one dtype."""

    dtype: str
    m: int = Field(gt=0)
    k: int = Field(gt=0)
    n: int = Field(gt=0)
    measurement: Measurement

    @property
    def flop_per_s(self) -> float:
        """Multiplications and additions per second."""
        return 2.0 * self.m * self.k * self.n / self.measurement.median_s


class MachineCard(_Record):
    """What one machine was measured to do.

    Attributes
    ----------
    environment : Environment
        Hardware and versions.
    device : {"cpu", "cuda"}
        Which part of the machine this card is about.
    created : date
        Day of the measurement.
    quick : bool
        Short probe (fewer sizes and samples) or the full one.
    seconds_spent : float
        How long the probe took.
    threads : int
        Threads of the "all threads" measurements.
    bandwidth : tuple of BandwidthPoint
        The cache staircase.
    matmul : tuple of MatmulPoint
        Matrix multiplication rates.
    overheads : dict of str to Measurement
        Time of a call that does nearly nothing: ``"python call"``, ``"numpy add"``,
        ``"torch add"``, on a GPU ``"kernel launch"``.
    exponential, exponential_elements : Measurement, int
        ``exp2`` over that many elements in a cache: a second, lower ceiling of arithmetic.
    thread_team_s : float
        What sending work to all threads and waiting for them adds to a call. Explains, predicts
        nothing.
    new_page_s : float
        First touch of a page of fresh memory, for each 4 KiB. Explains, predicts nothing.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["machine-card"] = "machine-card"
    environment: Environment
    device: Literal["cpu", "cuda"] = "cpu"
    created: date
    command: str = "python -m helpers.bench.probe"
    quick: bool = True
    seconds_spent: float = Field(ge=0)
    threads: int = Field(ge=1)
    bandwidth: tuple[BandwidthPoint, ...]
    matmul: tuple[MatmulPoint, ...]
    overheads: dict[str, Measurement]
    exponential: Measurement | None = None
    exponential_elements: int = Field(default=0, ge=0)
    thread_team_s: float = Field(default=0.0, ge=0)
    new_page_s: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> MachineCard:
        have = {p.pattern for p in self.bandwidth if p.measurement.threads == self.threads}
        missing = [p for p in ("read", "update", "copy") if p not in have]
        if missing:
            raise ValueError(f"bandwidth: no point for {', '.join(missing)} with all threads")
        if "fp32" not in self.dtypes:
            raise ValueError("matmul: no fp32 point with all threads")
        return self

    # ---- what the machine can do ---------------------------------------------------------

    @property
    def label(self) -> str:
        """The machine in one phrase."""
        return self.environment.label

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Dtypes with a matmul rate measured with all threads."""
        points = (p for p in self.matmul if p.measurement.threads == self.threads)
        return tuple(dict.fromkeys(p.dtype for p in points))

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """Thread counts with measurements, ascending."""
        counts = {p.measurement.threads for p in self.bandwidth if p.library == "torch"}
        return tuple(sorted(counts))

    def _threads(self, threads: int | None) -> int:
        if threads is None:
            return self.threads
        if threads not in self.thread_counts:
            known = ", ".join(map(str, self.thread_counts))
            raise ValueError(f"threads: {threads!r} was not measured; this card has {known}")
        return threads

    def peak(self, dtype: str = "fp32", threads: int | None = None) -> float:
        """Best measured matrix-multiplication rate, FLOP/s (for int8: operations per second).

        Parameters
        ----------
        dtype : str
            One of :attr:`dtypes`.
        threads : int, optional
            All threads by default.

        Returns
        -------
        float
            The fastest size's median rate.

        Raises
        ------
        ValueError
            For a dtype or a thread count that was not measured.
        """
        threads = self._threads(threads)
        rates = [
            p.flop_per_s
            for p in self.matmul
            if p.dtype == dtype and p.measurement.threads == threads
        ]
        if not rates:
            raise ValueError(
                f"dtype: {dtype!r} was not measured with {threads} threads;"
                f" this card has {', '.join(self.dtypes)}"
            )
        return max(rates)

    def curve(
        self, pattern: str, threads: int | None = None, library: str = "torch"
    ) -> list[BandwidthPoint]:
        """Measured points of one pattern, by ascending working set, without untrusted ones.

        Parameters
        ----------
        pattern : str
            ``"read"``, ``"update"``, ``"copy"`` or ``"triad"``.
        threads : int, optional
            All threads by default.
        library : str
            ``"torch"`` or ``"numpy"``.

        Raises
        ------
        ValueError
            For an unknown pattern or thread count.
        """
        if pattern not in ARRAYS:
            raise ValueError(f"pattern: {pattern!r} is not one of {', '.join(ARRAYS)}")
        threads = 1 if library == "numpy" else self._threads(threads)
        points = [
            p
            for p in self.bandwidth
            if p.pattern == pattern
            and p.library == library
            and p.measurement.threads == threads
            and p.trusted
        ]
        return sorted(points, key=lambda p: p.working_set_bytes)

    def _pattern_seconds_per_byte(
        self, pattern: str, working_set_bytes: float, threads: int | None
    ) -> float:
        """Seconds per moved byte, linear between neighbouring sizes on a logarithmic axis."""
        points = self.curve(pattern, threads)
        if not points:
            raise ValueError(f"pattern: this card has no {pattern!r} points to go by")
        costs = [1.0 / p.bandwidth_bytes_per_s for p in points]
        sizes = [math.log2(p.working_set_bytes) for p in points]
        size = math.log2(working_set_bytes)
        if size <= sizes[0]:
            return costs[0]
        for i in range(1, len(sizes)):
            if size <= sizes[i]:
                share = (size - sizes[i - 1]) / (sizes[i] - sizes[i - 1])
                return costs[i - 1] + share * (costs[i] - costs[i - 1])
        return costs[-1]

    def bandwidth_at(
        self, working_set_bytes: float, pattern: str = "triad", threads: int | None = None
    ) -> float:
        """Measured bandwidth at a working-set size, bytes per second.

        Parameters
        ----------
        working_set_bytes : float
            Bytes of all arrays that are touched again and again.
        pattern : str
            ``"read"``, ``"update"``, ``"copy"`` or ``"triad"``.
        threads : int, optional
            All threads by default.

        Returns
        -------
        float
            Interpolated between the measured sizes; beyond them the nearest one's.

        Raises
        ------
        ValueError
            If the size is not positive, or the pattern or thread count unknown.
        """
        if not working_set_bytes > 0:
            raise ValueError(f"working_set_bytes: {working_set_bytes!r} is not positive")
        return 1.0 / self._pattern_seconds_per_byte(pattern, working_set_bytes, threads)

    def seconds_per_byte(
        self, stream: str, working_set_bytes: float, threads: int | None = None
    ) -> float:
        """Cost of one byte of a stream, in seconds.

        Parameters
        ----------
        stream : str
            ``"read"``, ``"update"`` (per byte of the array: read and written back), ``"write"``.
        working_set_bytes : float
            Bytes of all arrays of the operation.
        threads : int, optional
            All threads by default.

        Raises
        ------
        ValueError
            For an unknown stream, size or thread count.
        """
        if not working_set_bytes > 0:
            raise ValueError(f"working_set_bytes: {working_set_bytes!r} is not positive")
        if stream == "read":
            return self._pattern_seconds_per_byte("read", working_set_bytes, threads)
        if stream == "update":
            return 2 * self._pattern_seconds_per_byte("update", working_set_bytes, threads)
        if stream == "write":
            copied = 2 * self._pattern_seconds_per_byte("copy", working_set_bytes, threads)
            read = self._pattern_seconds_per_byte("read", working_set_bytes, threads)
            # noise can make a copy look cheaper than its reads; a store is never free
            return max(copied - read, 0.1 * read)
        raise ValueError(f"stream: {stream!r} is not one of read, update, write")

    @property
    def dispatch_s(self) -> float:
        """Seconds that one tiny library call takes: Python, dispatch and, on a GPU, launch."""
        name = "kernel launch" if self.device == "cuda" else "torch add"
        return self.overheads[name].median_s

    @property
    def exponential_s(self) -> float | None:
        """Seconds per exponential, with all threads and the data in a cache."""
        if self.exponential is None or not self.exponential_elements:
            return None
        return self.exponential.median_s / self.exponential_elements

    @property
    def memory_bandwidth_bytes_per_s(self) -> float:
        """Triad bandwidth at the largest working set: what main memory gives."""
        pattern = "triad" if self.curve("triad") else "copy"
        return self.curve(pattern)[-1].bandwidth_bytes_per_s

    @property
    def last_level_cache_bytes(self) -> int:
        """Largest cache that the system tells of (0 if it tells none)."""
        return max(self.environment.cache_bytes.values(), default=0)

    def cache_level(self, working_set_bytes: float) -> str:
        """Where a working set lives: the smallest cache that holds it, or ``"memory"``.

        Parameters
        ----------
        working_set_bytes : float
            Bytes touched again and again. Private caches count once for each core.
        """
        for name, size in sorted(self.environment.cache_bytes.items()):
            private = name in ("L1", "L2") and self.device == "cpu"
            if working_set_bytes <= size * (self.threads if private else 1):
                return name
        return "memory"

    def ridge(self, dtype: str = "fp32") -> float:
        """Intensity at which this machine turns from memory-bound to compute-bound, FLOP/B.

        Parameters
        ----------
        dtype : str
            One of :attr:`dtypes`.
        """
        return self.peak(dtype) / self.memory_bandwidth_bytes_per_s

    @property
    def median_spread(self) -> float:
        """Median over all points of the distance between the quartiles, as a share of the median.

        Half of what was measured repeats better than this.
        """
        return quantile([p.measurement.spread for p in (*self.bandwidth, *self.matmul)], 0.5)

    @property
    def busy(self) -> bool:
        """Whether the spreads say that other programs ran during the probe."""
        return self.median_spread > LARGE_SPREAD

    # ---- to read -------------------------------------------------------------------------

    def rows(self) -> list[tuple[str, str]]:
        """The card in (what, value) pairs."""
        kind = "quick" if self.quick else "full"
        rows = [
            ("machine", self.label),
            (
                "measured",
                f"{self.created.isoformat()}, {kind} probe, {self.seconds_spent:.0f} s,"
                f" {self.threads} thread{'s' * (self.threads > 1)}"
                f" (Python {self.environment.python}, torch {self.environment.torch})",
            ),
        ]
        disturbed = f"; {BUSY}" if self.busy else ""
        rows.append(("median spread", f"{self.median_spread:.0%}{disturbed}"))
        for dtype in self.dtypes:
            point = max(
                (
                    p
                    for p in self.matmul
                    if p.dtype == dtype and p.measurement.threads == self.threads
                ),
                key=lambda p: p.flop_per_s,
                default=None,
            )
            if point is not None:
                unit = "GOP/s" if dtype == "int8" else "GFLOP/s"
                value = f"{point.flop_per_s / 1e9:.3g} {unit} at n = {point.n}"
                rows.append((f"matmul {dtype}", f"{value} (spread {point.measurement.spread:.0%})"))
        for pattern in ARRAYS:
            points = self.curve(pattern)
            if points:
                last = points[-1]
                rows.append(
                    (
                        f"memory, {pattern}",
                        f"{last.bandwidth_bytes_per_s / 1e9:.3g} GB/s"
                        f" at {last.working_set_bytes / 2**20:.0f} MiB"
                        f" (spread {last.measurement.spread:.0%})",
                    )
                )
        best = max(self.curve("triad") or self.curve("copy"), key=lambda p: p.bandwidth_bytes_per_s)
        rows.append(
            (
                "best cache bandwidth",
                f"{best.bandwidth_bytes_per_s / 1e9:.3g} GB/s at"
                f" {best.working_set_bytes / 2**10:.0f} KiB ({best.pattern})",
            )
        )
        if self.environment.cache_bytes:
            sizes = (
                f"{k} {v // 2**10:,} KiB" for k, v in sorted(self.environment.cache_bytes.items())
            )
            rows.append(("caches", ", ".join(sizes)))
        for name, measurement in self.overheads.items():
            rows.append((name, format_seconds(measurement.median_s)))
        if self.exponential_s:
            rows.append(("exponentials", f"{1e-9 / self.exponential_s:.3g} G/s"))
        if self.thread_team_s:
            rows.append(("calling all threads", format_seconds(self.thread_team_s)))
        if self.new_page_s:
            rows.append(("new page (4 KiB)", format_seconds(self.new_page_s)))
        rows.append(("ridge, fp32", f"{self.ridge('fp32'):.3g} FLOP/B"))
        return rows

    def summary(self) -> str:
        """The card as text, one line each."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<MachineCard: {self.label}, {self.created.isoformat()}>"

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><th scope='row'>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>"
            for a, b in self.rows()
        )
        caption = f"<caption>Machine card: {html.escape(self.label)}</caption>"
        return f'<div class="mb mb-card"><table>{caption}<tbody>{body}</tbody></table></div>'
