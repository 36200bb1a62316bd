"""The machine card: what it predicts from its points, how it is kept, and how faults are told."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from helpers.bench import probe, recorded, storage
from helpers.bench.environment import Environment, current_environment
from helpers.bench.machine import BandwidthPoint, MachineCard, MatmulPoint
from helpers.bench.timing import Measurement, torch_threads

KIB, MIB = 2**10, 2**20


def timed(seconds: float, threads: int = 2) -> Measurement:
    return Measurement(name="x", samples_s=(seconds, seconds, seconds), threads=threads)


def point(pattern, size, bandwidth, threads=2, call_s=0.0):
    moved = size * {"read": 1, "update": 2, "copy": 1, "triad": 1}[pattern]
    return BandwidthPoint(
        pattern=pattern,
        working_set_bytes=size,
        call_s=call_s,
        measurement=timed(moved / bandwidth + call_s, threads),
    )


def make_card(environment: Environment | None = None, **changes) -> MachineCard:
    """Reads 100 GB/s in a cache and 20 in memory; a write costs as much, in memory twice."""
    points = []
    for threads, share in ((2, 1.0), (1, 0.5)):
        for size, read, write_cost in ((MIB, 100e9, 1), (64 * MIB, 20e9, 2)):
            points.append(point("read", size, share * read, threads))
            points.append(point("update", size, share * read, threads))
            points.append(point("copy", size, share * 2 * read / (1 + write_cost), threads))
            points.append(point("triad", size, share * 3 * read / (2 + write_cost), threads))
    fields = {
        "environment": environment
        or Environment(
            processor="Test CPU 1",
            cores=2,
            memory_bytes=2**34,
            system="Linux",
            python="3.11.7",
            numpy="2.4",
            torch="2.13",
            cache_bytes={"L1": 32 * KIB, "L2": MIB, "L3": 32 * MIB},
        ),
        "created": date(2026, 11, 21),
        "seconds_spent": 15,
        "threads": 2,
        "bandwidth": tuple(points),
        "matmul": tuple(
            MatmulPoint(dtype=dtype, m=n, k=n, n=n, measurement=timed(2 * n**3 / rate, threads))
            for dtype, rate, threads, n in (
                ("fp32", 100e9, 2, 512),
                ("fp32", 80e9, 2, 1024),
                ("fp32", 60e9, 1, 512),
                ("bf16", 400e9, 2, 512),
            )
        ),
        "overheads": {"torch add": timed(1e-6, 1), "python call": timed(3e-8, 1)},
    }
    return MachineCard(**{**fields, **changes})


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "_IN_MEMORY", {})
    return tmp_path / "cache"


def test_peak_is_the_best_size_with_all_threads():
    card = make_card()
    assert card.peak("fp32") == pytest.approx(100e9)
    assert card.peak("fp32", threads=1) == pytest.approx(60e9)
    assert card.dtypes == ("fp32", "bf16")


def test_bandwidth_depends_on_the_working_set():
    card = make_card()
    assert card.bandwidth_at(KIB, "read") == pytest.approx(100e9)
    assert card.bandwidth_at(2**40, "read") == pytest.approx(20e9)
    assert card.bandwidth_at(2**40, "read", threads=1) == pytest.approx(10e9)
    # half way on the logarithmic axis the cost per byte is the mean of the two
    half = card.bandwidth_at(8 * MIB, "read")
    assert 1 / half == pytest.approx((1 / 100e9 + 1 / 20e9) / 2)


@given(st.floats(1e3, 1e12), st.floats(1e3, 1e12))
def test_a_larger_working_set_is_never_faster_on_this_card(a, b):
    card = make_card()
    small, large = sorted((a, b))
    for pattern in ("read", "update", "copy", "triad"):
        assert card.bandwidth_at(small, pattern) >= card.bandwidth_at(large, pattern) * (1 - 1e-12)


def test_the_price_of_a_write_is_what_a_copy_takes_beyond_its_reads():
    card = make_card()
    read = card.seconds_per_byte("read", 2**40)
    assert card.seconds_per_byte("write", 2**40) == pytest.approx(2 * read)
    assert card.seconds_per_byte("write", KIB) == pytest.approx(1 / 100e9)
    # the triad was not used for this: two reads and a write predict it
    triad_s = 2 * read + card.seconds_per_byte("write", 2**40)
    assert 3 / triad_s == pytest.approx(card.bandwidth_at(2**40, "triad"))


def test_the_cost_of_a_call_is_taken_off_a_point():
    p = point("read", 64 * KIB, 50e9, call_s=1e-6)
    assert p.bandwidth_bytes_per_s == pytest.approx(50e9)
    assert not point("read", KIB, 50e9, call_s=1e-6).trusted


def test_private_caches_count_once_for_each_thread():
    card = make_card()
    levels = [card.cache_level(s) for s in (64 * KIB, 65 * KIB, 2 * MIB, 3 * MIB, 33 * MIB)]
    assert levels == ["L1", "L2", "L2", "L3", "memory"]


def test_a_card_survives_json():
    card = make_card()
    assert MachineCard.model_validate_json(card.model_dump_json()) == card


def test_the_summary_names_what_was_measured():
    text = make_card().summary()
    for words in ("100 GFLOP/s at n = 512", "20 GB/s", "fp32", "1.00 µs", "L3 32,768 KiB"):
        assert words in text
    assert "<caption>" in make_card()._repr_html_()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.peak("fp8"), "dtype: 'fp8' was not measured .* fp32, bf16"),
        (lambda c: c.peak("fp32", threads=7), "threads: 7 .* 1, 2"),
        (lambda c: c.bandwidth_at(0), "working_set_bytes: 0"),
        (lambda c: c.bandwidth_at(MIB, "scan"), "pattern: 'scan' .* read, update, copy, triad"),
        (lambda c: c.seconds_per_byte("delete", MIB), "stream: 'delete'"),
    ],
)
def test_what_the_card_does_not_know_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call(make_card())


def test_a_card_without_a_needed_pattern_is_refused():
    card = make_card()
    rest = tuple(p for p in card.bandwidth if p.pattern != "copy")
    with pytest.raises(ValidationError, match="no point for copy"):
        make_card(bandwidth=rest)


# ---- kept between sessions ----------------------------------------------------------------


def here(**changes) -> Environment:
    return current_environment().model_copy(update={"gpu": "", "gpu_driver": "", **changes})


def test_a_saved_card_comes_back_with_its_age(cache_home):
    card = make_card(here())
    assert "Saved as" in storage.save_card(card)
    storage._IN_MEMORY.clear()
    found = storage.load_card(today=card.created + timedelta(days=3))
    assert found.card == card and "3 days ago" in found.message
    old = storage.load_card(today=card.created + timedelta(days=400))
    assert "run the probe again" in old.message
    assert not list(cache_home.rglob("*.tmp")), "a temporary file was left behind"


def test_a_card_of_another_machine_is_not_used(cache_home):
    storage.save_card(make_card())
    found = storage.load_card()
    assert found.card is None and "another machine" in found.message


def test_without_a_card_the_message_says_so(cache_home):
    found = storage.load_card()
    assert found.card is None and "run the probe" in found.message


def test_an_unwritable_folder_keeps_the_card_in_memory(cache_home):
    # a file where the folder should be: fails for every user, root too
    cache_home.write_text("in the way")
    card = make_card(here())
    message = storage.save_card(card)
    assert "kept in memory" in message and "cannot be written" in message
    assert storage.load_card().card == card


def test_a_read_only_home_keeps_the_card_in_memory(cache_home):
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    cache_home.mkdir()
    cache_home.chmod(stat.S_IREAD | stat.S_IEXEC)
    assert "kept in memory" in storage.save_card(make_card(here()))


def test_no_home_at_all(monkeypatch):
    monkeypatch.setattr(storage, "cache_folder", lambda: None)
    monkeypatch.setattr(storage, "_IN_MEMORY", {})
    assert "no home folder" in storage.load_card().message
    assert "kept in memory" in storage.save_card(make_card(here()))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: d.update(threads=0), "threads: Input should be greater"),
        (lambda d: d["bandwidth"][0].update(pattern="scan"), "bandwidth.0.pattern"),
        (lambda d: d["matmul"][0]["measurement"].update(samples_s=[-1]), "matmul.0.measurement"),
        (lambda d: d.update(surprise=1), "surprise: Extra inputs"),
        (lambda d: d.pop("overheads"), "overheads: Field required"),
    ],
)
def test_a_wrong_value_in_a_file_gives_one_message_with_its_name(cache_home, spoil, words):
    data = json.loads(make_card(here()).model_dump_json())
    spoil(data)
    path = storage.card_path()
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(data))
    found = storage.load_card()
    assert found.card is None
    assert str(path) in found.message and words in found.message
    assert "run the probe again" in found.message and "\n" not in found.message


def test_a_torn_file_is_told(cache_home):
    path = storage.card_path()
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 1, "ban')
    message = storage.load_card().message
    assert str(path) in message and "not JSON" in message


# ---- recorded runs ------------------------------------------------------------------------


def test_recorded_runs_load_and_tell_nothing_private():
    assert {"reference-cpu-card", "reference-cpu-operations"} <= set(recorded.names())
    for name in recorded.names():
        run = recorded.load(name)
        assert run.environment.processor and run.seconds_spent > 0
        text = (recorded.FOLDER / f"{name}.json").read_text()
        for private in (os.uname().nodename, "/home", "/work", "/root", "/tmp"):
            assert private not in text


def test_recorded_or_live(monkeypatch):
    monkeypatch.setenv(recorded.ENVIRONMENT_VARIABLE, "1")
    card = recorded.recorded_or_live("reference-cpu-card", lambda: pytest.fail("measured"))
    assert isinstance(card, MachineCard)
    monkeypatch.delenv(recorded.ENVIRONMENT_VARIABLE)
    assert recorded.recorded_or_live("reference-cpu-card", lambda: "live") == "live"
    with pytest.raises(ValueError, match=r"name: 'nope' is not one of .*reference-cpu-card"):
        recorded.recorded_or_live("nope", lambda: "live")


def test_a_wrong_recorded_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    (tmp_path / "odd.json").write_text('{"kind": "poem"}')
    with pytest.raises(
        storage.CardFileError, match=r"odd.json: kind: 'poem' .* restore it|Restore"
    ):
        recorded.load("odd")


# ---- the probe itself ---------------------------------------------------------------------


def test_sizes_run_from_the_first_cache_to_several_times_the_last():
    for quick in (True, False):
        sizes = probe.working_set_sizes(32 * MIB, 2**35, quick=quick)
        assert sizes == sorted(set(sizes)) and all(size % 96 == 0 for size in sizes)
        assert sizes[0] <= 32 * KIB and sizes[-1] >= 4 * 32 * MIB * 0.99
    assert max(probe.working_set_sizes(512 * MIB, 2**30)) <= 64 * MIB


def test_a_short_probe_gives_a_sane_card(cache_home):
    pytest.importorskip("torch")
    said = []
    with torch_threads(1):  # threads that wait for each other take long where tests run in parallel
        card = probe.probe(progress=said.append, budget_s=1.0)
    assert card.environment.same_hardware(here())
    assert 1e8 < card.peak("fp32") < 1e15
    assert 1e8 < card.memory_bandwidth_bytes_per_s < 1e13
    # a cache may be hidden by noise on a busy machine, but not by a factor of ten
    assert card.bandwidth_at(MIB, "copy") > 0.1 * card.bandwidth_at(2**40, "copy")
    assert card.overheads["python call"].median_s < card.overheads["torch add"].median_s
    assert any("memory bandwidth" in line for line in said)
    assert MachineCard.model_validate_json(card.model_dump_json()) == card


class Late:
    """A probe's clock that is ahead of the plan from the start."""

    def __init__(self, write, total_s):
        self.say, self.elapsed_s = (write or (lambda line: None)), 99.0

    def late(self, part):
        return True


def test_a_late_probe_leaves_out_what_a_card_can_do_without(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(probe, "Progress", Late)
    said = []
    card = probe.probe(progress=said.append, budget_s=0.5)
    assert card.dtypes == ("fp32",) and len({p.m for p in card.matmul}) == 1
    assert all(len(p.measurement.samples_s) == 3 for p in card.bandwidth)
    assert {p.library for p in card.bandwidth} == {"torch"}
    sizes = {p.working_set_bytes for p in card.bandwidth}
    assert len(sizes) == probe.NEEDED_SIZES and max(sizes) > 32 * MIB
    assert card.thread_counts[0] == 1  # what threads buy can still be told
    assert "median spread" in said[-1]


def test_a_busy_machine_shows_in_the_card():
    quiet = make_card()
    assert not quiet.busy and ("median spread", "0%") in quiet.rows()
    samples = Measurement(name="x", samples_s=(0.8, 1.0, 1.2, 1.8), threads=2)
    noisy = [p.model_copy(update={"measurement": samples}) for p in quiet.bandwidth]
    card = make_card(bandwidth=tuple(noisy))
    assert card.busy
    assert f"{card.median_spread:.0%}; spreads are large: the machine was busy" in card.summary()


@pytest.mark.parametrize(("factor", "probes"), [(1.1, 0), (5.0, 1), (0.5, 1)])
def test_a_saved_card_that_does_not_repeat_is_measured_once_more(
    cache_home, monkeypatch, factor, probes
):
    from test_bench_operations import fake_run

    card = make_card(here())
    fresh = make_card(here(), seconds_spent=16)
    storage.save_card(card)
    made = []
    monkeypatch.setattr(probe.operations, "measure", lambda chosen, **o: fake_run(card, factor))
    monkeypatch.setattr(probe, "probe", lambda *a, **o: made.append(1) or fresh)
    said = []
    assert probe.my_card(progress=said.append) == (fresh if probes else card)
    assert len(made) == probes
    assert any("measured again, once" in line for line in said) == bool(probes)
    if probes:
        assert storage.load_card().card == fresh


def test_a_missing_torch_is_one_clear_message():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from helpers.bench.probe import main\n"
        "sys.exit(main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "the probe needs torch" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_explains_itself():
    for arguments in (["--help"], ["probe", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "helpers", *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0 and "probe" in done.stdout
    bad = subprocess.run([sys.executable, "-m", "helpers", "prob"], capture_output=True, text=True)
    assert bad.returncode == 2 and "choose from" in bad.stderr


def test_this_machine_is_described():
    environment = current_environment()
    assert environment.cores >= 1 and environment.processor
    assert environment.label.split()[0].isdigit() or environment.gpu
    assert os.uname().nodename not in environment.model_dump_json()
