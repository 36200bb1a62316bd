"""What the lab of smaller caches shows, against the recorded run's own numbers."""

from __future__ import annotations

import json
import re

import pytest

torch = pytest.importorskip("torch")
import tiny  # noqa: E402
from helpers.bench import recorded, smaller  # noqa: E402
from helpers.bench.smaller import FULL, Cache  # noqa: E402
from helpers.book.figures import smaller as figures  # noqa: E402
from helpers.lm import evaluate, tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def run():
    return recorded.load(smaller.RECORDED)


@pytest.fixture(scope="module")
def raw():
    """The file, read without the schema."""
    return json.loads((recorded.FOLDER / f"{smaller.RECORDED}.json").read_text())


def cells(table):
    """Rows of a table by their first cell."""
    return {row[0]: [getattr(c, "text", c) for c in row[1:]] for row in table.rows}


def test_the_table_shows_bytes_bits_and_cost(run, raw):
    shown = cells(figures.results_table(run))
    assert len(shown) == len(raw["results"])
    full = raw["results"][0]["bits_per_byte"]
    for result, (label, row) in zip(raw["results"], shown.items(), strict=True):
        kib, saving, bits, cost = row
        size = result["session_bytes"]
        assert float(kib.replace(",", "")) == pytest.approx(size / 1024, abs=0.51), label
        # bf16: 5 layers, 4 heads of keys and of values, 32 numbers of 2 bytes, 1,024 tokens
        assert float(saving) == pytest.approx(5 * 8 * 64 * 1024 / size, abs=0.051), label
        assert float(bits) == pytest.approx(result["bits_per_byte"], abs=5.1e-5), label
        percent = 100 * (result["bits_per_byte"] / full - 1)
        assert float(cost.rstrip("%")) == pytest.approx(percent, abs=0.51), label
        assert (cost[0] in "+-") == (abs(percent) >= 0.005), label


def test_costs_are_finer_where_they_are_small():
    assert [figures.percent(x) for x in (0.4012, 0.0999, 0.0123, 0.00341, 0, -0.0004)] == [
        "+40%", "+10.0%", "+1.2%", "+0.34%", "0.00%", "-0.04%",
    ]  # fmt: skip


def test_the_picture_names_every_cache_and_where_it_stands(run):
    picture = figures.bytes_and_bits(run)
    drawn = [r for r in run.results if not r.cache.group and r.cache != FULL]
    for result in drawn:
        label = result.cache.label
        assert f"{label}: {figures.kibibytes(result.session_bytes)} KiB" in picture.alt
    for wide in (True, False):
        (ax,) = picture.figure(wide).axes
        names = {text.get_text() for text in ax.texts}
        assert {"bf16", "int8", "int4", "int2", "32", "512", "1 head", "2 heads", "a"} <= names
        low, high = ax.get_ylim()
        left, right = ax.get_xlim()
        for result in drawn:
            assert run.cost(result.cache.label) < high and low < 1e-4
            assert left < result.session_bytes / 1024 < right
        # a name belongs to its mark: that of int4 stands at int4
        int4 = next(text for text in ax.texts if text.get_text() == "int4")
        assert int4.xy == pytest.approx((720, run.cost("int4")))


def test_the_recall_picture_draws_the_lines_that_are_asked_for(run):
    labels = {"fp32": "fg", "window 32": "c2"}
    picture = figures.recall_by_distance(run, labels)
    (ax,) = picture.figure().axes
    lines = [line for line in ax.lines if len(line.get_xdata()) == len(run.recalls[0].distances)]
    for label, line in zip(labels, lines, strict=True):
        assert tuple(line.get_ydata()) == run.recall(label).saved_bits
    with pytest.raises(ValueError, match="'int5' has no recall"):
        figures.recall_by_distance(run, {"int5": "fg"})


def test_recall_and_layers_as_tables(run):
    table = cells(figures.recall_table(run))
    assert table["window 32"][0] == figures.percent(run.cost("window 32"))
    first = run.recall("window 32")
    assert table["window 32"][1] == f"{first.saved_bits[0]:.2f} ± {first.standard_errors[0]:.2f}"
    layers = figures.layers_table(run)
    assert [row[0] for row in layers.rows] == ["1", "2", "3", "4", "5"]
    assert layers.rows[2][1] == f"{run.layers[2].key_spread:.1f}"


def test_bits_of_tokens_add_up_to_those_of_the_text():
    model, coder = tiny.model(dtype=torch.float32, vocab=4096), tokenizer.load()
    ids = coder.encode("def f(x):\n    return x\n")
    for cache in (FULL, Cache(window=3), Cache(form="int4")):
        bits = figures.token_bits(model, ids, coder.end, cache)
        whole = evaluate.document_bits(model, [ids], coder.end, attend=cache.attend())[0]
        assert len(bits) == len(ids) and sum(bits) == pytest.approx(whole, rel=1e-5)


def test_one_text_says_its_rates_and_its_cache():
    model, coder, text = tiny.model(dtype=torch.float32, vocab=4096), tokenizer.load(), "a = [1]\n"
    strip, rate = figures.one_text(model, coder, text, Cache(window=2))
    assert "".join(strip.texts) == text
    bits = figures.token_bits(model, coder.encode(text), coder.end, Cache(window=2))
    assert rate == pytest.approx(sum(bits) / len(text))
    said = re.search(r"^window 2: ([\d.]+) bits per byte, ([\d.]+) with", strip.caption)
    assert float(said[1]) == pytest.approx(rate, abs=0.005)


def test_the_short_table_has_the_recorded_values_of_the_long_one(run):
    long = {row[0]: (row[1].value, row[4].value) for row in figures.results_table(run).rows}
    short = {row[0]: (row[1].value, row[2].value) for row in figures.chosen_table(run).rows}
    assert tuple(short) == figures.CHOSEN, "a name that no recorded cache has"
    assert short.items() <= long.items()
