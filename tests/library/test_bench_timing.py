"""Timing: the arithmetic of samples, and that a known duration comes out."""

from __future__ import annotations

import sys
import time
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from helpers.bench import timing
from helpers.bench.timing import Measurement, quantile, rotating_copies, time_call

positive = st.floats(1e-9, 1e3)


@given(st.lists(positive, min_size=1, max_size=40), st.floats(0, 1))
def test_quantile_is_numpys(values, share):
    assert quantile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-12)


@given(st.lists(positive, min_size=1, max_size=40))
def test_median_and_spread_are_numpys(samples):
    m = Measurement(name="x", samples_s=tuple(samples))
    assert m.median_s == pytest.approx(np.median(samples))
    wide = np.quantile(samples, 0.75) - np.quantile(samples, 0.25)
    rounding = 1e-12 * max(samples)  # the difference of two quartiles keeps their rounding
    assert m.iqr_s == pytest.approx(wide, abs=rounding)
    assert m.spread == pytest.approx(wide / np.median(samples), abs=rounding / np.median(samples))


@given(st.lists(positive, min_size=1, max_size=9))
def test_a_measurement_survives_json(samples):
    m = Measurement(name="x", samples_s=tuple(samples), threads=2, calls_per_sample=7)
    assert Measurement.model_validate_json(m.model_dump_json()) == m
    rounded = m.rounded()
    assert rounded.median_s == pytest.approx(m.median_s, rel=1e-3)
    assert rounded.rounded() == rounded


@pytest.mark.parametrize("samples", [(), (0.0,), (-1.0,), (float("nan"),), (float("inf"),)])
def test_impossible_samples_are_refused(samples):
    with pytest.raises(ValidationError, match="samples_s"):
        Measurement(name="x", samples_s=samples)


def test_a_known_duration_comes_out():
    m = time_call(lambda: time.sleep(0.004), samples=5, max_total_s=0.2)
    assert 0.004 <= m.median_s < 0.1
    assert len(m.samples_s) >= 3


def test_short_calls_are_repeated_until_the_clock_does_not_matter():
    m = time_call(lambda: None, samples=3, min_sample_s=2e-3)
    assert m.calls_per_sample > 100
    assert m.median_s < 1e-4


def test_slow_calls_get_fewer_samples_but_never_under_three():
    calls = []
    m = time_call(lambda: (calls.append(1), time.sleep(0.02)), samples=50, max_total_s=0.08)
    assert 3 <= len(m.samples_s) <= 5
    assert m.calls_per_sample == 1


def test_arguments_are_taken_in_turn():
    seen = []
    time_call(seen.append, arguments=[(1,), (2,), (3,)], samples=3, min_sample_s=1e-4)
    assert seen[:6] == [1, 2, 3, 1, 2, 3]


def test_flushed_samples_are_single_calls(monkeypatch):
    flushed = []
    monkeypatch.setattr(timing, "flush_caches", flushed.append)
    m = time_call(lambda: None, samples=4, flush_bytes=4096)
    assert m.cold and m.calls_per_sample == 1
    assert flushed == [4096] * len(m.samples_s)


def test_flushing_walks_over_its_buffer():
    timing.flush_caches(2**16)
    timing.flush_caches(2**16)
    (buffer,) = timing._FLUSH_BUFFERS.values()
    assert buffer.nbytes == 2**16 and buffer[0] == 3.0
    timing._FLUSH_BUFFERS.clear()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 2}, "samples: 2"),
        ({"min_sample_s": 0}, "min_sample_s"),
        ({"max_total_s": -1}, "max_total_s"),
        ({"arguments": []}, "arguments"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        time_call(lambda: None, **options)


@given(st.integers(1, 10**12), st.integers(0, 10**9))
def test_rotating_copies_exceed_the_cache(bytes_each, cache_bytes):
    copies = rotating_copies(bytes_each, cache_bytes)
    assert 1 <= copies <= 64
    assert copies == 64 or copies * bytes_each >= 3 * cache_bytes


def test_cuda_without_a_device_says_what_to_do():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match="no CUDA device; use time_call"):
        timing.time_cuda(lambda: None)


def test_cuda_timing_waits_for_the_gpu_and_reads_events(monkeypatch):
    """A stand-in for torch.cuda: events that tick 2 ms a call, a log of what was asked for."""
    log, clock = [], [0.0]

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = clock[0]

        def synchronize(self):
            log.append("wait")

        def elapsed_time(self, other):
            assert log[-1] == "wait", "an event was read before the GPU had reached it"
            return other.at - self.at  # milliseconds

    cuda = types.SimpleNamespace(
        is_available=lambda: True, synchronize=lambda: log.append("sync"), Event=Event
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    seen = []

    def work(x):
        seen.append(x)
        clock[0] += 2.0

    m = timing.time_cuda(work, arguments=[(0,), (1,)], samples=3)
    assert m.median_s == pytest.approx(2e-3)
    assert m.device == "cuda" and m.calls_per_sample >= 3
    assert log[0] == "sync", "warm-up must end before timing begins"
    assert seen[:4] == [0, 1, 0, 1]


def test_threads_are_set_and_put_back():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with timing.torch_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="threads: 0"), timing.torch_threads(0):
        pass


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.50 s"), (3e-3, "3.00 ms"), (4.2e-7, "420 ns")]
)
def test_format_seconds(seconds, text):
    assert timing.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.507, "507 ms"),
        (421e-9, "421 ns"),
        (0.9999, "1.00 s"),
        (999.7e-6, "1.00 ms"),
        (99.96e-6, "100 µs"),
        (12.34, "12.3 s"),
        (5400.0, "5,400 s"),
        (0.5e-9, "0.500 ns"),
        (-0.25, "-250 ms"),
        (0.0, "0.00 ns"),
    ],
)
def test_a_duration_has_three_digits_and_no_bare_point(seconds, text):
    assert timing.format_seconds(seconds) == text
