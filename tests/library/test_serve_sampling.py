"""Sampling and detokenising against plain references; what a request may ask for."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers.serve.detokenizer import Detokenizer
from helpers.serve.request import RequestError, SamplingParams
from helpers.serve.sampling import draw, new_generator, probabilities, rewind, sample

settings_ = settings(max_examples=150)


def reference(logits, temperature, top_k, top_p):
    """The distribution by the definitions, one token at a time, without torch."""
    scores = np.asarray(logits, dtype=np.float64) / temperature
    chances = np.exp(scores - scores.max())
    order = sorted(range(len(chances)), key=lambda token: (-scores[token], token))
    kept = order[: top_k or len(order)]
    total = sum(chances[token] for token in kept)
    if top_p is not None:
        nucleus, held = [], 0.0
        for token in kept:
            if held >= top_p:
                break
            nucleus.append(token)
            held += chances[token] / total
        kept = nucleus
    out = np.zeros(len(chances))
    out[kept] = chances[kept]
    return out / out.sum()


@settings_
@given(
    logits=st.lists(st.floats(-8, 8), min_size=1, max_size=12),
    temperature=st.floats(0.05, 5),
    top_k=st.none() | st.integers(1, 14),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_probabilities_follow_their_definition(logits, temperature, top_k, top_p):
    logits = [round(value, 2) for value in logits]  # equal scores happen
    got = probabilities(torch.tensor(logits, dtype=torch.float64), temperature, top_k, top_p)
    want = reference(logits, temperature, top_k, top_p)
    if not np.allclose(got, want, atol=1e-12):
        # rounding may put one more token into the nucleus, or one less, and nothing else
        assert top_p is not None
        near = [reference(logits, temperature, top_k, top_p + d) for d in (-1e-9, 1e-9)]
        assert any(np.allclose(got, one, atol=1e-12) for one in near)


def test_among_equals_the_lower_token_comes_first():
    flat = torch.zeros(1000)
    for cut in ({"top_k": 3}, {"top_p": 0.003}):
        assert probabilities(flat, **cut).nonzero().flatten().tolist() == [0, 1, 2]


def test_the_nucleus_is_no_larger_than_needed():
    assert probabilities(torch.zeros(4), top_p=0.5).tolist() == [0.5, 0.5, 0.0, 0.0]
    assert (probabilities(torch.zeros(4), top_p=0.51) > 0).sum() == 3
    assert probabilities(torch.zeros(4), top_p=1e-12).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_rows_do_not_mix():
    logits = torch.randn(5, 30, generator=torch.Generator().manual_seed(1))
    together = probabilities(logits, 0.7, 9, 0.8)
    for row, alone in zip(logits, together, strict=True):
        assert torch.equal(probabilities(row, 0.7, 9, 0.8), alone)


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-300, 1e-9])
def test_cold_is_greedy(temperature):
    logits = torch.tensor([1.0, 3.0, 2.0, -torch.inf])
    got = probabilities(logits, temperature)
    assert got.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_drawn_tokens_have_the_probabilities():
    chances = probabilities(torch.tensor([0.0, 1.0, 2.0, -torch.inf, 0.5]), 1.3)
    generator = torch.Generator().manual_seed(3)
    count = 20_000
    drawn = draw(chances.expand(count, -1), [generator] * count)
    counts = torch.bincount(drawn, minlength=5)
    assert counts[3] == 0
    seen = chances > 0
    assert stats.chisquare(counts[seen], chances[seen] * count).pvalue > 1e-4
    # the same test sees a distribution that is off by a little
    wrong = probabilities(torch.tensor([0.0, 1.0, 2.0, -torch.inf, 0.5]), 1.5)
    assert stats.chisquare(counts[seen], wrong[seen] * count).pvalue < 1e-4


def test_the_ends_of_the_uniform_number_draw_possible_tokens(monkeypatch):
    chances = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]]).double()
    for uniform, token in ((0.0, 1), (1 - 2**-53, 3)):
        fixed = torch.tensor([uniform], dtype=torch.float64)
        monkeypatch.setattr(torch, "rand", lambda *a, fixed=fixed, **k: fixed)
        assert draw(chances, [None]).tolist() == [token]


def asks(seed=None, **params):
    """A request as far as sampling sees it."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return SimpleNamespace(params=SamplingParams(**params), generator=generator)


def test_a_row_is_sampled_as_if_alone():
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(2)).double()

    def requests():
        return [
            asks(),
            asks(seed=5, temperature=1.0),
            asks(seed=5, temperature=1.0),
            asks(seed=6, temperature=0.5, top_k=5),
            asks(),
            asks(seed=7, temperature=2.0, top_p=0.9),
        ]

    together = sample(logits, requests())
    alone = [sample(logits[i : i + 1], [one])[0] for i, one in enumerate(requests())]
    assert together == alone
    assert together[0] == logits[0].argmax() and together[4] == logits[4].argmax()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_cost_their_row_only(value):
    logits = torch.zeros(3, 8)
    logits[1, 4] = value
    logits[0, 2] = logits[2, 2] = 9.0
    greedy = sample(logits, [asks()] * 3)
    chance = sample(logits, [asks(seed=1, temperature=0.1), asks(seed=1, temperature=1.0), asks()])
    assert greedy == [2, None, 2] and chance == [2, None, 2]


BAD = {
    "max_tokens": [0, -1, 1.5, True, "4", None],
    "temperature": [-0.1, float("nan"), float("inf"), "1", None, True],
    "top_k": [0, -3, 2.0, "5", True],
    "top_p": [0, 0.0, -0.5, 1.01, float("nan"), "0.5"],
    "seed": [-1, 0.5, 2**32, "7"],
    "stop": ["", ("a", ""), (3,), 3, None, {"a"}],
    "stop_tokens": [(97,), (-1,), (1.0,), 5, "a", None],
    "n": [0, -1, 1.5, None],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_bad_value_is_named(name, value):
    with pytest.raises(RequestError, match=name):
        SamplingParams(**{name: value}).check(vocab=97)


def test_every_allowed_seed_is_told_apart():
    firsts = [
        torch.rand(1, generator=new_generator(SamplingParams(seed=seed), 0)).item()
        for seed in (0, 1, 2**31, 2**32 - 1)
    ]
    assert len(set(firsts)) == 4


def test_good_values_pass():
    SamplingParams().check(vocab=97)
    SamplingParams(
        max_tokens=1, temperature=2, top_k=500, top_p=1, seed=0, stop=["a"], stop_tokens=[96], n=4
    ).check(vocab=97)
    assert SamplingParams(stop="end").stop == ("end",)


# ---- text ------------------------------------------------------------------------------------


class Pieces:
    """A tokenizer whose token ``i`` is the ``i``-th piece of given bytes."""

    def __init__(self, pieces):
        self.pieces = pieces

    def token_bytes(self, token):
        return self.pieces[token]


def cut(data: bytes, places) -> list[bytes]:
    """Bytes cut at places (taken modulo their length)."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def feed(pieces, stop=()):
    """All pieces pushed one by one: the emitted texts and the detokenizer."""
    detokenizer = Detokenizer(Pieces(pieces), stop)
    out = []
    for token in range(len(pieces)):
        out.append(detokenizer.push(token))
        if detokenizer.stopped:
            break
    else:
        out.append(detokenizer.flush())
    assert "".join(out) == detokenizer.text
    return out, detokenizer


texts = st.text(alphabet="ab \né€😀𝄞", max_size=12)
places = st.lists(st.integers(0, 60), max_size=12)


@settings_
@given(data=st.binary(max_size=16) | texts.map(str.encode), places=places)
def test_any_bytes_cut_anywhere_give_the_text_of_the_whole(data, places):
    out, _ = feed(cut(data, places))
    assert "".join(out) == data.decode("utf-8", errors="replace")


@settings_
@given(text=texts, places=places)
def test_no_half_character_is_ever_given_out(text, places):
    for piece in feed(cut(text.encode(), places))[0]:
        assert "�" not in piece


def test_characters_wait_for_their_last_byte():
    out, _ = feed([b"\xf0\x9f", b"\x98", b"\x80!", b"\xe2\x82"])
    assert out == ["", "", "😀!", "", "�"]


def until(text, stop):
    """The text before the stop string that ends first (of those, the one that begins first)."""
    for end in range(1, len(text) + 1):
        begins = [end - len(s) for s in stop if text[:end].endswith(s)]
        if begins:
            return text[: min(begins)], True
    return text, False


@settings_
@given(
    text=texts,
    places=places,
    stop=st.lists(st.text(alphabet="ab é😀", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_the_text_ends_before_the_stop_string(text, places, stop):
    out, detokenizer = feed(cut(text.encode(), places), stop)
    want, stopped = until(text, stop)
    assert detokenizer.stopped == stopped
    # one token may bring several stop strings at once and is still cut at the first to end
    assert detokenizer.text == "".join(out) == want


def test_a_stop_string_across_tokens_and_characters():
    stop = ["€nd"]
    out, detokenizer = feed([b"a\xe2", b"\x82", b"\xacn", b"dx"], stop)
    assert out == ["a", "", "", ""] and detokenizer.stopped
    out, detokenizer = feed([b"a\xe2", b"\x82", b"\xacn", b"o"], stop)
    assert out == ["a", "", "", "€no", ""] and not detokenizer.stopped
    out, _ = feed([b"a", b"\xe2\x82\xacn"], stop)  # the answer ends before the stop string does
    assert out == ["a", "", "€n"]


@pytest.mark.parametrize("pieces", [["abcd"], list("abcd"), ["ab", "cd"]])
def test_of_overlapping_stop_strings_the_first_to_end_counts(pieces):
    """However the tokens were cut: "bc" is complete before "abcd", which began earlier."""
    texts = dict(enumerate(pieces))

    class Tokens:
        def token_bytes(self, token):
            return texts[token].encode()

    detokenizer = Detokenizer(Tokens(), stop=("abcd", "bc"))
    assert "".join(map(detokenizer.push, texts)) == "a" == detokenizer.text
    assert detokenizer.stopped


def test_a_generator_is_put_back_to_any_number():
    generator = torch.Generator().manual_seed(2**32 - 1)
    numbers = [torch.rand(1, generator=generator, dtype=torch.float64).item() for _ in range(70)]
    for drawn in (0, 1, 15, 16, 17, 69):
        rewind(generator, drawn)
        assert torch.rand(1, generator=generator, dtype=torch.float64).item() == numbers[drawn]
