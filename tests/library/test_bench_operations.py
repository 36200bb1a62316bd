"""Operations: their counts against torch's own counter and tensors, and the comparison's sums."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import date

import pytest
from test_bench_card import make_card, timed  # the card made there

from helpers.bench import operations as ops
from helpers.bench import recorded
from helpers.bench.operations import OperationsRun, compare, predict
from helpers.bench.timing import Measurement

torch = pytest.importorskip("torch")

SMALL = {
    "gemm": lambda: ops._gemm("x", 33, 65, 17),
    "gemm bf16": lambda: ops._gemm("x", 32, 64, 16, "bf16"),
    "gemv": lambda: ops._gemm("x", 33, 65, 1),
    "attention": lambda: ops._attention("x", 3, 5, 40, 16),
    "mlp": lambda: ops._mlp("x", 7, 24, 96),
}


def tensors_of(call) -> list:
    """The tensors that a call works on."""
    contents = (cell.cell_contents for cell in call.__closure__ or ())
    return [held for held in contents if isinstance(held, torch.Tensor)]


@pytest.mark.parametrize("name", SMALL)
def test_flops_are_those_torch_counts(name):
    from torch.utils.flop_counter import FlopCounterMode

    op = SMALL[name]()
    call = op.build("cpu")
    if name == "attention":
        # torch's counter knows the CPU kernel only by its two products
        k, q, v = tensors_of(call)  # in alphabetical order of their names
        call = lambda: torch.softmax(q @ k.transpose(-1, -2), -1) @ v  # noqa: E731
    if name == "gemv":
        a, result, vector = tensors_of(call)
        call = lambda: torch.mm(a, vector[:, None], out=result[:, None])  # noqa: E731
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    counted = counter.get_total_flops()
    extra = 8 * 7 * 96 if name == "mlp" else 0  # torch counts no GELU
    assert op.flops - extra == counted


def captured(op) -> list:
    """The tensors that an operation's call works on, and its result."""
    call = op.build("cpu")
    tensors = {tensor.data_ptr(): tensor for tensor in tensors_of(call)}
    with torch.inference_mode():
        result = call()
    tensors.setdefault(result.data_ptr(), result)
    return list(tensors.values())


@pytest.mark.parametrize(
    "op",
    [
        ops._stream("x", 999, "copy"),
        ops._stream("x", 999, "scale"),
        ops._stream("x", 999, "triad"),
        ops._stream("x", 999, "axpy"),
        ops._stream("x", 999, "chain"),
        ops._row_maximum("x", 13, 21),
        ops._softmax("x", 13, 21),
        ops._gemm("x", 33, 65, 17),
        ops._gemm("x", 33, 65, 1),
        ops._attention("x", 3, 5, 40, 16),
    ],
    ids=lambda op: f"{op.flops:.0f}",
)
def test_the_working_set_is_what_the_tensors_hold(op):
    held = sum(t.numel() * t.element_size() for t in captured(op))
    # GEMV keeps its matrix of one column besides the vector made of it
    assert op.working_set_bytes <= held <= op.working_set_bytes * 1.05


def test_streams_count_reads_updates_and_writes():
    axpy, chain = ops._stream("a", 1000, "axpy"), ops._stream("c", 1000, "chain")
    assert (axpy.read_bytes, axpy.update_bytes, axpy.write_bytes) == (4000, 4000, 0)
    assert axpy.moved_bytes == 12_000
    assert chain.moved_bytes == 24_000 and chain.calls == 3


def test_the_list_has_what_the_chapter_asks_for():
    names = " ".join(op.name for op in ops.operations())
    for word in ("copy", "axpy", "triad", "chain", "row maximum", "softmax", "layer norm", "GEMV"):
        assert word in names
    for word in ("GEMM small", "GEMM large", "prefill", "decode", "MLP"):
        assert word in names
    counting = [op for op in ops.operations() if not op.built_the_card]
    assert len(counting) >= 10
    assert {op.name for op in ops.operations() if op.built_the_card} == {
        "dot, 128 MiB",
        "copy, 128 MiB", "triad, 144 MiB", "GEMM 1024, square",
    }  # fmt: skip


def test_a_prediction_by_hand():
    # the test card: 20 GB/s reads in memory, a write costs two reads; 100 GFLOP/s fp32
    card = make_card()
    p = predict(ops._stream("x", 2**25, "triad"), card)
    assert p.memory_s == pytest.approx(2**25 * 4 * (2 + 2) / 20e9)
    assert p.compute_s == pytest.approx(2 * 2**25 / 100e9)
    assert p.max_s == p.memory_s and p.sum_s == p.memory_s + p.compute_s
    assert p.dispatch_s == pytest.approx(1e-6) and p.level == "memory"
    big = predict(ops._gemm("x", 4096, 4096, 4096), card)
    assert big.bound_by == "compute" and big.max_s == pytest.approx(2 * 4096**3 / 100e9)
    assert predict(ops._gemm("x", 64, 64, 64), card).level == "L1"


def test_exponentials_are_priced_by_the_card():
    op = ops._softmax("x", 8192, 2048)
    plain = predict(op, make_card()).compute_s
    dear = make_card(exponential=timed(1e-3), exponential_elements=1000)
    count = 8192 * 2048
    assert predict(op, dear).compute_s == pytest.approx(plain + count * (1e-6 - 1 / 100e9))


def fake_run(card, factor):
    chosen = ops.operations()
    measurements = {
        op.name: Measurement(name=op.name, samples_s=(predict(op, card).max_s * factor,) * 3)
        for op in chosen
    }
    return OperationsRun(
        environment=card.environment,
        created=date(2026, 11, 21),
        seconds_spent=1,
        threads=2,
        measurements=measurements,
    )


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_two_numbers_of_a_comparison(factor):
    card = make_card()
    result = compare(card, fake_run(card, factor))
    assert result.median_abs_log2 == pytest.approx(abs(math.log2(factor)), abs=1e-9)
    assert all(row.ratio == pytest.approx(factor) for row in result.rows)
    if factor == 0.5:
        assert result.share_inside == 0
    assert len(result.misses()) == (0 if factor == 1 else len(result.counting))
    assert all(row.explanation() for row in result.rows)
    for row in result.rows:
        assert sum(row.parts_s.values()) == pytest.approx(row.measurement.median_s)
    # heading, rows, and the summary: one line, or two where the building operations drift
    lines = len(result.rows) + 2 + (factor != 1)
    assert len(str(result).splitlines()) == lines
    assert "<table>" in result._repr_html_()


def test_new_pages_and_calls_are_named_in_the_residual():
    card = make_card(new_page_s=1e-6, thread_team_s=1e-4)
    row = next(r for r in compare(card, fake_run(card, 4)).rows if r.name == "layer norm, 128 MiB")
    assert row.parts_s["new pages"] == pytest.approx(64 * 2**20 / 4096 * 1e-6)
    assert "new pages" in row.explanation()
    small = next(r for r in compare(card, fake_run(card, 9)).rows if r.name == "GEMM small, 64")
    assert "calling all threads" in small.explanation()


def test_another_machines_run_is_refused():
    card = make_card()
    run = fake_run(card, 1)
    other = run.environment.model_copy(update={"processor": "Other CPU"})
    with pytest.raises(ValueError, match="run: measured on 2 cores of an Other CPU"):
        compare(card, run.model_copy(update={"environment": other}))


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="name: 'sort' is not one of: dot, 128 MiB"):
        ops.operation("sort")
    with pytest.raises(ValueError, match="kind: 'sort' is not one of matmul fp32"):
        ops.playground_operation("sort", 64)
    with pytest.raises(ValueError, match="n: 0 is not"):
        ops.playground_operation("axpy", 0)


def test_operations_run_and_are_timed():
    chosen = [ops._stream("axpy", 1000, "axpy"), ops._gemm("gemm", 16, 16, 16)]
    run = ops.measure(chosen, samples=3, seconds_each=0.02)
    assert set(run.measurements) == {"axpy", "gemm"}
    assert OperationsRun.model_validate_json(run.model_dump_json()) == run


def test_the_recorded_run_covers_every_operation_and_playground_setting():
    card = recorded.load("reference-cpu-card")
    run = recorded.load("reference-cpu-operations")
    result = compare(card, run)
    assert {row.name for row in result.rows} == {op.name for op in ops.operations()}
    play = recorded.load("reference-cpu-playground")
    assert set(play.measurements) == {op.name for op in ops.playground_operations()}
    assert all(len(m.samples_s) >= 3 for m in run.measurements.values())


def test_the_recorded_run_meets_the_books_own_bar():
    result = compare(recorded.load("reference-cpu-card"), recorded.load("reference-cpu-operations"))
    assert result.median_abs_log2 <= 0.5, result.summary()


# ---- a machine that changed between card and run ------------------------------------------


@pytest.mark.parametrize(("factor", "words"), [(40, "runs 40 times"), (0.5, "runs 0.5 times")])
def test_drift_is_told_with_what_to_do(factor, words):
    card = make_card()
    result = compare(card, fake_run(card, factor))
    assert result.drift == pytest.approx(factor) and not result.steady
    first, warning = result.summary().splitlines()
    assert first.startswith("22 predictions")
    assert words in warning and "my_card(again=True)" in warning and "says little" in warning
    assert warning in str(result) and warning in result._repr_html_()


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_no_drift_no_warning(factor):
    card = make_card()
    result = compare(card, fake_run(card, factor))
    assert result.steady and result.warning() == "" and "\n" not in result.summary()


def test_drift_is_the_worst_of_the_rows_that_built_the_card():
    card = make_card()
    run = fake_run(card, 1)
    slow = {"copy, 128 MiB": 1.2, "triad, 144 MiB": 9.0, "scale, 4 MiB": 100.0}
    changed = {
        name: Measurement(name=name, samples_s=tuple(s * slow.get(name, 1) for s in m.samples_s))
        for name, m in run.measurements.items()
    }
    result = compare(card, run.model_copy(update={"measurements": changed}))
    # of 1.2, 9 and 1: the scale is no building operation
    assert result.drift == pytest.approx(9.0)
    without = compare(card, run, [ops.operation("scale, 4 MiB")])
    assert without.drift is None and without.steady


def row_with(samples, name="GEMM, 8 tokens x 128 MiB"):
    card = make_card()
    run = fake_run(card, 1)
    bound = predict(ops.operation(name), card).max_s
    timing = Measurement(name=name, samples_s=tuple(bound * s for s in samples))
    run = run.model_copy(update={"measurements": {name: timing}})
    return compare(card, run).rows[0]


def test_physics_is_blamed_only_for_what_would_repeat():
    assert "(packing)" in row_with((2.0, 2.0, 2.0)).explanation()
    huge = row_with((11_666.0,) * 3).explanation()
    assert "packing" not in huge and "(a disturbed measurement? spread 0%)" in huge
    spread = row_with((1.5, 2.0, 4.0)).explanation()
    assert "packing" not in spread and "(a disturbed measurement? spread 62%)" in spread
    assert "a disturbed card or measurement?" in row_with((0.3,) * 3).explanation()


def test_the_recorded_run_is_of_the_same_moment_as_its_card():
    result = compare(recorded.load("reference-cpu-card"), recorded.load("reference-cpu-operations"))
    assert result.steady, result.summary()


def test_a_card_is_checked_with_the_operations_that_built_it(monkeypatch):
    card = make_card()
    seen = []

    def fake(chosen, **options):
        seen.extend(op.name for op in chosen)
        return fake_run(card, 3)

    monkeypatch.setattr(ops, "measure", fake)
    checked = ops.check_card(card)
    assert seen == ["dot, 128 MiB", "copy, 128 MiB", "triad, 144 MiB", "GEMM 1024, square"]
    assert checked.drift == pytest.approx(3) and "no predictions" in checked.summary()


def test_rounds_spread_the_samples_of_every_operation():
    chosen = [ops.operation("scale, 4 MiB"), ops.operation("GEMM small, 64")]
    run = ops.measure(chosen, samples=6, seconds_each=0.02, rounds=2)
    assert all(len(m.samples_s) >= 6 for m in run.measurements.values())
    with pytest.raises(ValueError, match="rounds: 0"):
        ops.measure(chosen, rounds=0)


def test_what_takes_far_too_long_goes_round_once():
    quick = ops._gemm("quick", 16, 16, 16)
    calls = []

    def build(device):
        def call():
            calls.append(1)
            time.sleep(0.05)

        return call

    slow = replace(quick, name="slow", build=build)
    run = ops.measure([quick, slow], samples=6, seconds_each=0.02, rounds=2)
    assert {name: len(m.samples_s) for name, m in run.measurements.items()} == {
        "quick": 6,
        "slow": 3,
    }
    assert len(calls) == 5  # one to warm up, one to see how long it takes, three samples
