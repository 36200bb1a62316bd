"""The figures and tables of chapter 1 against numbers worked out by hand."""

from __future__ import annotations

import pytest

from helpers.book.figures import roofline as figures
from helpers.book.figures import roofline_tables as tables
from helpers.book.picture import picture


def test_intensities_of_the_eight_operations():
    found = [op.intensity for op in figures.operations()]
    by_hand = [
        1 / 12,
        1 / 4,
        1,
        5 / 4,
        8,  # eight queries for each key: 2g/w
        64,
        8192 / 3,
        4 * 64 * 4096 / (4 * (64 + 8)),  # 4 H T^2 d over 2 x 2 bytes x d (H T + H_kv T)
    ]
    assert found == pytest.approx(by_hand, rel=0.02)
    assert found == sorted(found)


def test_the_driving_pair_of_tasks():
    add, gemm = tables.two_tasks().rows
    assert add[5].value == pytest.approx(1.2e9 / 3.35e12)
    assert gemm[5].value == pytest.approx(2 * 4096**3 / 989.4e12)
    assert [row[-1] for row in (add, gemm)] == ["traffic", "arithmetic"]
    for row in (add, gemm):
        assert row[5].value <= row[6].value <= 2 * row[5].value


def test_the_link_becomes_the_roof_between_8_and_64_chips():
    rows = tables.layer_over_chips(512).rows
    assert [row[-1] for row in rows] == ["arithmetic", "arithmetic", "link"]
    assert rows[1][3].value == pytest.approx(2 * 7 / 8 * 512 * 8192 * 2 / 450e9)


def test_machines_by_hand():
    rows = {row[0].split(":")[0]: row for row in tables.machines().rows}
    assert rows["LPU"][-2].text == "307"  # 70.55 GB over 230 MB
    assert rows["GPU"][5].value == pytest.approx(989.4 / 3.35)
    assert rows["Wafer"][4].text == "dense not published"


@pytest.mark.parametrize(
    "figure", [figures.what_batch_size_buys, figures.decode_bound, figures.spoof_the_sheet]
)
def test_nothing_leaves_the_picture(figure):
    assert figure.check(400) == []


def test_the_decode_figure_agrees_with_worked_numbers():
    state = figures.decode_bound.python(batch=32, context=8192)
    assert state.readout.startswith("2,126 tokens/s in all, 66.4 for each reader; memory-bound.")
    state = figures.decode_bound.python(chip="T4", model="Llama 3.1 70B", width=2)
    assert "Does not fit" in state.readout


def test_no_mistake_moves_nothing():
    state = figures.spoof_the_sheet.python(slip="none")
    assert "read as 295" in state.readout and state.readout.endswith("1.00 times")
    doubled = figures.spoof_the_sheet.python(slip="both directions of the link").readout
    assert "link ridge 2,199, read as 1,099" in doubled


def test_still_figures_are_deterministic_and_described():
    for still in (figures.two_clocks, figures.eight_operations):
        again = picture(still.alt, still.caption, still.heights)(still.function)
        assert again.html == still.html
        assert still.html.count("aria-label=") == 2 and "<figcaption>" in still.html


def test_a_still_figure_needs_words():
    with pytest.raises(ValueError, match="alt"):
        picture("", "something")
    with pytest.raises(ValueError, match="caption"):
        picture("something", " ")
