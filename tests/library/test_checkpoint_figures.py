"""What the page of the book's model draws from cards: counts by hand, refusals, quotations."""

from __future__ import annotations

import math
import re

import pytest

import tiny
from helpers.book.figures import checkpoints as figures
from helpers.lm import datacard
from helpers.lm.config import ModelConfig
from helpers.lm.model import Transformer
from helpers.lm.recipes import RECIPES


def card(name="target", **changes):
    recipe = RECIPES[name].to_dict()
    made = {
        "name": name,
        "recipe": recipe,
        "parameters": figures.count_parts(recipe["config"]).total,
        "curve": [[50, 6.0, 2.4, 10.0], [100, 5.0, 2.0, 20.0]],
        "samples": [{"prompt": "def f(", "text": "<x> & y):\n    pass", "seed": 0}],
    }
    return {**made, **changes}


# ---- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"tied_embeddings": False}, {"kv_heads": 1, "layers": 3}, {"head_dim": 4}]
)
def test_the_count_is_that_of_a_real_module(changes):
    model = tiny.model(**changes)
    parts = figures.count_parts(model.config.to_dict())
    assert parts.total == sum(p.numel() for p in model.parameters())


def test_the_target_by_hand():
    parts = figures.count_parts(RECIPES["target"].to_dict()["config"])
    assert parts.embedding == 4096 * 384
    assert parts.attention == 5 * (384 * (8 + 4 + 4) * 32 + 8 * 32 * 384)
    assert parts.feed_forward == 5 * 3 * 384 * 1024
    assert parts.norms == 11 * 384
    assert parts.head == 0


def test_the_size_table_says_bytes_and_cache():
    table = figures.size_table([card(), card("draft")])
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["parameters in all"][0] == "8,949,888"
    assert rows["file, bf16"] == ["17.9 MB", "1.79 MB"]
    # 2 x 5 layers x 4 heads x 32 numbers x 4 bytes
    assert rows["KV cache for each token, float32"][0] == "5 KiB"


def test_a_card_with_another_count_is_refused():
    with pytest.raises(ValueError, match=r"target states 5 parameters; its sizes give 8,949,888"):
        figures.size_table([card(parameters=5)])


# ---- text ----------------------------------------------------------------------------------------


def test_the_text_table_adds_up():
    data = datacard.load()
    rows = figures.text_table(data).rows
    assert [row[0] for row in rows[:3]] == ["training", "validation", "held out"]
    for row in rows[:3]:
        assert sum(map(int, row[5:])) == int(row[1])
        count, tokens = (int(cell.replace(",", "")) for cell in row[2:4])
        assert float(row[4]) == pytest.approx(count / tokens, abs=0.006)


def test_a_strip_shows_every_token_and_hides_no_mark_up():
    strip = figures.TokenStrip(["<b>", "\n    ", " x"], [1.0, 20.0, 0.04], "Three & more.")
    html = strip._repr_html_()
    assert html.count("<span>") == 3
    assert "&lt;b&gt;" in html and "⏎␣×4" in html and "␣x" in html and "Three &amp; more." in html
    assert re.findall(r"<small>(.*?)</small>", html) == ["1.0", "20.0", "0.0"]
    heights = [int(h) for h in re.findall(r"--h:(\d+)px", html)]
    assert heights[1] == max(heights) and heights[2] == 1
    assert "<small>" not in figures.TokenStrip(["a"], None, "One.")._repr_html_()


def test_a_strip_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="bits: has 1 of them; there are 2 texts"):
        figures.TokenStrip(["a", "b"], [1.0], "x")
    with pytest.raises(ValueError, match="there is none"):
        figures.TokenStrip([], None, "x")


# ---- curves and bars -----------------------------------------------------------------------------


def points(drawn, label):
    ax = drawn.figure().axes[0]
    (line,) = [line for line in ax.lines if str(line.get_label()).startswith(label)]
    return line.get_xydata().tolist()


def test_the_curve_begins_where_nothing_is_known_and_is_in_bits_per_byte():
    drawn = figures.loss_curve(card(), bytes_per_token=3.0)
    train, validation = points(drawn, "training"), points(drawn, "validation")
    assert train[0] == validation[0] == [0, pytest.approx(12 / 3)]
    assert train[1:] == [
        [25, pytest.approx(6 / math.log(2) / 3)],
        [75, pytest.approx(5 / math.log(2) / 3)],
    ]
    assert validation[1:] == [[50, 2.4], [100, 2.0]]


def test_fresh_weights_lose_what_the_curve_begins_with():
    import torch

    model = Transformer(ModelConfig.from_dict(tiny.model().config.to_dict())).double()
    tokens = torch.randint(0, 97, (64,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(model(tokens[:-1]), tokens[1:])
    assert loss.item() == pytest.approx(math.log(97), abs=0.05)


def test_bars_stand_in_order_and_say_their_values():
    bars = {"a": 2.0, "b": 1.25, "model": 1.5}
    drawn = figures.bits_bars(bars, ["model"])
    ax = drawn.figure().axes[0]
    assert [bar.get_width() for bar in ax.patches] == [1.25, 1.5, 2.0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "model", "a"]
    assert "a 2.00, model 1.50, b 1.25" in drawn.alt
    filled = [bar.get_facecolor()[3] > 0 for bar in ax.patches]
    assert filled == [False, True, False]


# ---- samples -------------------------------------------------------------------------------------


def test_samples_say_what_is_generated():
    html = figures.Samples(card())._repr_html_()
    assert "<u>def f(</u>&lt;x&gt; &amp; y):" in html
    assert "the rest is generated" in html


def test_a_sample_too_long_to_quote_is_refused():
    long = [{"prompt": "x", "text": "y" * 299, "seed": 0}]
    with pytest.raises(ValueError, match="300 characters; below 300"):
        figures.Samples(card(samples=long))


def test_control_characters_do_not_reach_the_page():
    made = figures.Samples(card(samples=[{"prompt": "a", "text": "b\x11\n\tc", "seed": 0}]))
    assert "<u>a</u>b·\n\tc" in made._repr_html_()
