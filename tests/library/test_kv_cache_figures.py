"""The figures of chapter 6 against numbers worked out by hand, without the book's formulas."""

from __future__ import annotations

import random
import re

import pytest

from helpers import catalog
from helpers.book.figures import kv_cache as figures
from helpers.book.picture import picture


def settings(figure, count, seed=0):
    return random.Random(seed).sample(list(figure.settings()), count)


def numbers(text):
    """The numbers of a read-out."""
    return [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


# --- the memory of a chip -----------------------------------------------------------------------

#: bytes per token with 16-bit values: 2 x layers x heads of keys x 128 x 2; the latent 576 values
PER_TOKEN = {
    "Llama 2 7B": 2 * 32 * 32 * 128 * 2,
    "Llama 3.1 8B": 2 * 32 * 8 * 128 * 2,
    "Qwen2.5 7B": 2 * 28 * 4 * 128 * 2,
    "Llama 3.1 70B": 2 * 80 * 8 * 128 * 2,
    "Mistral 7B v0.1": 2 * 32 * 8 * 128 * 2,
    "Llama 3.1 70B, 8-bit weights": 2 * 80 * 8 * 128 * 2,
    "DeepSeek-V3, 8-bit weights": 61 * 576 * 2,
}


def test_one_session_of_128k_is_known_from_elsewhere():
    said = figures.cache_on_a_chip.python(
        model="Llama 3.1 70B", machine="8 × H100 SXM", context=131072, users=1
    ).readout
    # 327,680 B x 131,072; (640 - 141.107) / 42.95 = 11.6
    assert said == "1 × 42.95 GB = 42.9 GB of cache. It fits; at most 11 such users do."


def test_memory_is_what_one_adds_up_by_hand():
    figure = figures.cache_on_a_chip
    for setting in settings(figure, 300):
        marks = figure.python(**setting).marks
        listed = [mark[2] for mark in marks if len(mark) == 3 and str(mark[2]).endswith("GB")]
        capacity, weights, cache, rest = (numbers(text)[0] for text in listed)
        model = setting["model"].split(",")[0]
        record = next(m for m in catalog.models() if m.name == model)
        tokens = min(setting["context"], 4096 if model.startswith("Mistral") else 10**9)
        by_hand = (
            PER_TOKEN[setting["model"]] * setting["bits"] / 16 * tokens * setting["users"] / 1e9
        )
        assert cache == pytest.approx(by_hand, abs=0.051)
        width = 1 if "8-bit" in setting["model"] else 2
        assert weights == pytest.approx(record.parameters * width / 1e9, abs=0.051)
        assert rest == pytest.approx(abs(capacity - weights - cache), abs=0.16)


def test_what_fits_is_never_more_than_the_memory():
    """The most users that a read-out names fit, and one more would not."""
    figure = figures.cache_on_a_chip
    for setting in settings(figure, 200, seed=1):
        said = figure.python(**setting).readout
        found = re.search(r"at most ([\d,]+) such", said)
        machine = figures.MACHINES[setting["machine"]]
        weights = figures.ALL_MODELS[setting["model"]]["weights"]
        tokens = min(setting["context"], 4096 if "Mistral" in setting["model"] else 10**9)
        one = PER_TOKEN[setting["model"]] * setting["bits"] / 16 * tokens
        if found:
            most = int(found[1].replace(",", ""))
            assert weights + most * one <= machine["capacity"] < weights + (most + 1) * one
            assert said.count("It fits") == (setting["users"] <= most)
        elif "alone" in said:
            assert weights > machine["capacity"]
        else:
            assert weights <= machine["capacity"] < weights + one


def test_too_much_is_seen_without_colour():
    def drawn(users):
        marks = figures.cache_on_a_chip.python(users=users).marks
        bars = [m for m in marks if len(m) == 4 and not isinstance(m[0], list)]
        return bars[1], bars[3], [m[2] for m in marks if isinstance(m[-1], str)]

    cache, frame, words = drawn(16)
    assert frame[2] == frame[3] and "free" in words
    cache, frame, words = drawn(128)
    assert frame[3] == cache[3] > frame[2] and "too much" in words
    assert frame[0] < cache[0] < cache[1] < frame[1]  # wider than the bar


def test_a_window_stops_the_cache_and_a_short_model_is_named():
    figure = figures.cache_on_a_chip
    said = [
        figure.python(model="Mistral 7B v0.1", context=context).readout.split(".")[:3]
        for context in (4096, 32768)
    ]
    assert said[0] == said[1]
    said = figure.python(model="Llama 2 7B", context=8192).readout
    assert said.endswith("The model itself ends at 4,096 tokens.")


# --- the time of a step -------------------------------------------------------------------------


def test_a_step_by_hand():
    said = figures.decode_step.python(context=8192, users=8, bits=16).readout
    # 16,060,522,496 B and 8 x 131,072 x 8,192 B at 3.35e12 B/s
    assert said.startswith("7.36 ms a step: 4.79 ms for the weights and 2.56 ms for the cache; ")
    assert "equal at 15,317 tokens" in said  # 16,060,522,496 / (8 x 131,072)
    assert said.endswith("Fits: 24.7 of 80 GB")


def test_at_the_equal_context_a_step_takes_twice_as_long():
    figure = figures.decode_step
    for setting in settings(figure, 200):
        marks = figure.python(**setting).marks
        lines = [m for m in marks if isinstance(m[0], list)]
        equal, weights, both = lines[0][0][0], lines[1][0][1], lines[2]
        if lines[0][1][1]:  # within the axis
            share = equal / both[1][0]
            there = both[0][1] + share * (both[1][1] - both[0][1])
            assert there == pytest.approx(2 * weights)
        else:
            assert both[1][1] < 2 * weights


def test_bytes_decide_at_every_setting():
    """What the figure leaves out, the arithmetic, takes less time than what it shows."""
    for name, model in figures.MODELS.items():
        shape = next(m for m in catalog.models() if m.name == name)
        for chip in map(catalog.chip, figures.SINGLE):
            peak = float(figures.sixteen_bit_peak(chip))
            users = figures.decode_step.controls["users"].stops[-1]
            matrices = 2 * model["parameters"] * users / peak
            assert matrices < model["weights"] / float(chip.bandwidth)
            attention = 4 * shape.layers * shape.heads * shape.head_dim / peak
            fewest = min(figures.BITS) / 16
            assert attention < model["cache"] * fewest / float(chip.bandwidth)


# --- fetch or compute again ---------------------------------------------------------------------


def test_fetching_and_computing_by_hand():
    said = figures.fetch_or_recompute.python(tokens=8192, bits=16, utilisation=40).readout
    fetch = 131_072 * 8192 / 63e9
    flops = 2 * 8_030_261_248 * 8192 + 4 * 32 * 32 * 128 * 8192 * 8193 / 2
    compute = flops / (989.4e12 * 0.4)
    assert said.startswith(
        f"Fetching 1.07 GB takes {1e3 * fetch:.1f} ms, computing it again {1e3 * compute:.1f} ms: "
        f"{compute / fetch:.2f} times as long. Fetching is faster at any length."
    )


def test_where_the_lines_cross_both_take_as_long():
    figure = figures.fetch_or_recompute
    seen = 0
    for setting in settings(figure, 300):
        said = figure.python(**setting).readout
        found = re.search(r"faster up to ([\d,]+) tokens", said)
        model, place = figures.MODELS[setting["model"]], figures.PLACES[setting["place"]]
        tokens = int(found[1].replace(",", "")) if found else 512
        fetch = model["cache"] * setting["bits"] / 16 * tokens / place["rate"]
        flops = 2 * model["parameters"] * tokens + 2 * model["width"] * tokens * (tokens + 1)
        compute = flops / (place["peak"] * setting["utilisation"] / 100)
        if found:
            seen += 1
            assert fetch == pytest.approx(compute, rel=1e-3)
        else:
            assert fetch < compute
    assert seen > 10


def test_links_are_one_way():
    assert figures.PLACES["host memory, RTX 4090 (PCIe 4)"]["rate"] == 31e9
    assert figures.PLACES["network, H100 (400 Gbit/s)"]["rate"] == 50e9
    ratio = figures.NVLINK_C2C / figures.PCIE_5
    assert ratio == pytest.approx(7, rel=0.03)  # as the source of the former says


# --- smaller caches -----------------------------------------------------------------------------


def test_seven_caches_by_hand():
    sizes = [size for _, size in figures.smaller_caches_rows()]
    assert sizes == [
        2 * 80 * 64 * 128 * 2,
        327_680,
        2 * 80 * 8 * (128 + 2 * 2),  # a byte a value, and two scales of two bytes per head
        2 * 80 * 8 * (64 + 2 * 2),
        80 * (512 + 64) * 2,
        2 * 80 * 128 * 2,
        327_680 / 8,  # 4,096 of 32,768 tokens
    ]


def test_the_still_figure_is_the_same_every_time_and_described():
    still = figures.smaller_caches
    again = picture(still.alt, still.caption, still.heights)(still.function)
    assert again.html == still.html
    assert still.html.count("aria-label=") == 2 and "<figcaption>" in still.html
    for words in ("2,621 (×8)", "169 (1/1.9)", "87 (1/3.8)", "92 (1/3.6)"):
        assert still.html.count(words) == 2, words


def test_the_table_of_users_by_hand():
    from helpers.book.figures.kv_cache_tables import users_by_context

    rows = {row[0].value: [cell.value for cell in row[1:]] for row in users_by_context().rows}
    weights, per_token, bandwidth, usable = 2 * 8_030_261_248, 131_072, 3.35e12, 0.9 * 80e9
    for tokens, (cached, users, step_ms, in_all, each) in rows.items():
        cache = tokens * per_token
        assert users * cache + weights <= usable < (users + 1) * cache + weights
        assert step_ms == pytest.approx((weights + users * cache) / bandwidth * 1e3)
        assert in_all == pytest.approx(users / step_ms * 1e3) and each * users == pytest.approx(
            in_all
        )
        assert cached == cache  # what the cell shows is in GiB
    assert rows[8192][1] == 52
