"""The baselines: xz against its own program, Kneser-Ney against the formula taken at its word."""

from __future__ import annotations

import math
import random
import shutil
import subprocess
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from helpers.lm import baselines, tokenizer
from helpers.lm.baselines import KneserNey
from helpers.lm.text import Corpus, Document


def document(said: str) -> Document:
    return Document("a", said, "source")


# --- counting ---------------------------------------------------------------------------------


class Slow:
    """Chen and Goodman's equations over dictionaries, one context at a time."""

    def __init__(self, documents, vocabulary, order):
        self.vocabulary, self.order = vocabulary, order
        occurrences = Counter()
        for tokens in documents:
            stream = [0] * (order - 1) + list(tokens) + [0]
            for at in range(order - 1, len(stream)):
                occurrences[tuple(stream[at - order + 1 : at + 1])] += 1
        self.counts = {order: occurrences}
        for length in range(order - 1, 0, -1):
            # in how many different n-grams one token longer it is the end
            self.counts[length] = Counter(gram[1:] for gram in self.counts[length + 1])

    def discount(self, length, count):
        n = Counter(self.counts[length].values())
        found = [0.5, 1.0, 1.5]
        if all(n[c] for c in (1, 2, 3, 4)):
            y = n[1] / (n[1] + 2 * n[2])
            estimate = [c - (c + 1) * y * n[c + 1] / n[c] for c in (1, 2, 3)]
            if all(0 < d < c for c, d in zip((1, 2, 3), estimate, strict=True)):
                found = estimate
        return found[min(count, 3) - 1] if count else 0.0

    def probability(self, context, token):
        if not context and not self.counts[1]:
            return 1 / self.vocabulary
        length = len(context) + 1
        shorter = self.probability(context[1:], token) if context else 1 / self.vocabulary
        after = [c for gram, c in self.counts[length].items() if gram[:-1] == context]
        if not after:
            return shorter
        count = self.counts[length][(*context, token)]
        left = sum(self.discount(length, c) for c in after)
        return (count - self.discount(length, count) + left * shorter) / sum(after)

    def document_bits(self, tokens):
        stream = [0] * (self.order - 1) + list(tokens)
        return -sum(
            math.log2(self.probability(tuple(stream[at - self.order + 1 : at]), stream[at]))
            for at in range(self.order - 1, len(stream))
        )


texts = st.lists(st.lists(st.integers(1, 5), max_size=30), min_size=1, max_size=4)


@given(texts, st.lists(st.integers(0, 6), max_size=8), st.integers(1, 5))
def test_kneser_ney_against_the_formula(documents, unseen, order):
    fast = KneserNey(documents, vocabulary=7, order=order)
    slow = Slow(documents, vocabulary=7, order=order)
    for tokens in [*documents, unseen]:
        assert fast.document_bits([tokens])[0] == pytest.approx(slow.document_bits(tokens))


def test_kneser_ney_against_the_formula_with_estimated_discounts():
    """Enough text that the three discounts are estimated at every length, not replaced."""
    draw = random.Random(0)
    documents = [[min(7, int(draw.expovariate(0.5)) + 1) for _ in range(200)] for _ in range(5)]
    fast = KneserNey(documents[:4], vocabulary=8, order=4)
    slow = Slow(documents[:4], vocabulary=8, order=4)
    replaced = [list(level.discounts) == [0.5, 1.0, 1.5] for level in fast._levels]
    assert replaced == [True, False, False, False]  # seven tokens are too few for unigrams
    slow.discount = cache(slow.discount)
    assert fast.document_bits(documents[4:])[0] == pytest.approx(slow.document_bits(documents[4]))


@given(texts, st.lists(st.integers(0, 6), max_size=6), st.integers(1, 5))
def test_probabilities_sum_to_one_in_any_context(documents, context, order):
    model = KneserNey(documents, vocabulary=7, order=order)
    share = [model.probability(context, token) for token in range(7)]
    assert sum(share) == pytest.approx(1)
    assert min(share) > 0  # nothing is impossible, not even what was never seen


def test_a_longer_context_helps_where_there_is_something_to_know():
    cycle = [1, 2, 1, 3, 1, 4] * 50  # what follows 1 is told by the token before it
    bits = [KneserNey([cycle], 5, order).document_bits([cycle])[0] for order in (1, 2, 3)]
    assert bits[0] > bits[1] > 3 * bits[2]


def test_chance_costs_its_entropy():
    """Independent draws cannot be predicted better than their distribution says."""
    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    train, held = rng.choice(4, size=(2, 20_000), p=p) + 1
    bits = KneserNey([train], vocabulary=5, order=2).document_bits([held])[0]
    assert bits / 20_000 == pytest.approx(1.75, abs=0.02)


def test_the_largest_vocabulary_of_a_five_gram():
    model = KneserNey([[4095, 4094, 4095, 4094]], vocabulary=4096)
    assert model.probability([4094, 4095], 4094) > 0.1
    with pytest.raises(ValueError, match=r"order must be 1 to 5 for a vocabulary of 4096.*: 6"):
        KneserNey([[1]], vocabulary=4096, order=6)


def test_a_document_without_tokens_costs_nothing():
    assert KneserNey([[1, 2]], vocabulary=5).document_bits([[], [1]])[0] == 0


def test_bad_tokens_are_refused():
    with pytest.raises(ValueError, match="outside 0 to 4: 5"):
        KneserNey([[1, 5]], vocabulary=5)
    with pytest.raises(ValueError, match="outside 0 to 4: -1"):
        KneserNey([[1]], vocabulary=5).document_bits([[-1]])
    with pytest.raises(ValueError, match="documents is empty"):
        KneserNey([], vocabulary=5)


# --- xz ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("xz"), reason="the program xz is not here to compare with")
def test_xz_is_as_large_as_the_program_makes_it():
    data = b"def f(x):\n    return x\n" * 40 + bytes(range(256))
    program = subprocess.run(["xz", "-9", "-c"], input=data, capture_output=True, check=True)
    assert abs(baselines.xz_bytes(data) - len(program.stdout)) <= 16  # size fields of its header


def test_xz_profits_from_what_it_has_seen():
    draw = random.Random(0)
    words = [f"{draw.getrandbits(40):x}" for _ in range(300)]
    train = [document(" ".join(draw.choices(words, k=3000)))]
    held = [document(" ".join(draw.choices(words, k=200))) for _ in range(5)]
    alone = baselines.xz_per_document(held)
    pooled = baselines.xz_pooled(held)
    primed = baselines.xz_primed(held, train)
    assert alone > pooled > primed > 0
    # a word of ten letters is one of 300
    assert primed * len(held[0].text) / 200 > math.log2(300)


def test_xz_primed_needs_the_whole_text_in_its_window(monkeypatch):
    monkeypatch.setattr(baselines, "XZ_WINDOW_BYTES", 10)
    with pytest.raises(ValueError, match="have 12 bytes; xz -9 looks back 10"):
        baselines.xz_primed([document("abcdef")], [document("ghijkl")])


@pytest.mark.parametrize("measure", [baselines.xz_per_document, baselines.xz_pooled])
def test_nothing_to_measure_is_refused(measure):
    with pytest.raises(ValueError, match="no text: nothing to measure"):
        measure([document("")])


# --- all of them ------------------------------------------------------------------------------


def test_all_are_measured_per_byte_of_the_same_text():
    """Bytes, not characters: the same text in two-byte letters costs half as much a byte."""
    draw = random.Random(0)
    said = [" ".join(draw.choices("abcdefgh", k=400)) for _ in range(4)]
    documents = [document(s) for s in said]
    found = baselines.measure(
        Corpus(tuple(documents[:2]), (documents[2],), (documents[3],)), tokenizer.load()
    )
    assert set(found) == {"xz_per_document", "xz_pooled", "xz_primed", "five_gram"}
    assert found["xz_per_document"] == pytest.approx(found["xz_pooled"])  # one document
    # eight letters, each with a space: three bits for two bytes, and nobody can do with less
    assert 1.4 < found["five_gram"] < 2.2
    assert 1.4 < found["xz_primed"] < 2.5
    greek = said[3].translate({ord(a): ord("α") + i for i, a in enumerate("abcdefgh")})
    assert baselines.xz_per_document([document(greek)]) < found["xz_per_document"]
