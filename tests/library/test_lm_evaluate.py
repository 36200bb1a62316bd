"""Bits per byte: against one prediction at a time, whatever the batch, the length and the type."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.lm import evaluate
from helpers.lm.text import Document

torch = pytest.importorskip("torch")
import tiny  # noqa: E402


@given(st.integers(0, 200), st.integers(2, 40))
def test_every_prediction_counts_once_and_sees_enough(tokens, context):
    cut = evaluate.windows(tokens, context)
    counted = [at for w in cut for at in range(w.counted, w.stop)]
    assert counted == list(range(tokens))
    for window in cut:
        assert 0 < window.stop - window.start <= context
        # inputs that the first counted prediction of a window sees, itself among them
        assert window.start == 0 or window.counted - window.start + 1 > context / 2


def slow_bits(model, tokens, end, context) -> float:
    """One prediction at a time, each from the window the rule gives it."""
    stream, bits = [end, *tokens], 0.0
    for at in range(len(tokens)):
        # the first window, of those that start every context // 2, that reaches the input
        start = next(s for s in range(0, at + 1, context // 2) if at < s + context)
        logits = model(torch.tensor([stream[start : at + 1]]))[0, -1]
        bits -= torch.log_softmax(logits, -1)[stream[at + 1]].item() / math.log(2)
    return bits


@pytest.mark.parametrize("context", [2, 7, 16, 24])
def test_against_one_prediction_at_a_time(context):
    model = tiny.model(context=24)
    documents = tiny.prompts(seed=1, count=4, longest=60)
    want = [slow_bits(model, tokens, 0, context) for tokens in documents]
    for batch_tokens in (1, 100, 10_000):
        found = evaluate.document_bits(model, documents, 0, context, batch_tokens)
        np.testing.assert_allclose(found, want, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types_are_near(dtype):
    documents = tiny.prompts(seed=2, count=4, longest=50)
    want = evaluate.document_bits(tiny.model(), documents)
    found = evaluate.document_bits(tiny.model(dtype=dtype), documents)
    np.testing.assert_allclose(found, want, rtol=1e-4 if dtype is torch.float32 else 0.05)


class Bytes:
    """A tokenizer of one token per byte, after the end of text."""

    end = 0

    def encode_many(self, texts):
        return [[byte + 1 for byte in said.encode("utf-8")] for said in texts]


def document(said: str) -> Document:
    return Document("a", said, "source")


def test_a_model_that_knows_nothing_needs_the_bits_of_the_vocabulary():
    model = tiny.model(vocab=257, context=16)
    model.head.weight.zero_()
    documents = [document("abc"), document("naïve " * 20)]
    assert evaluate.bits_per_byte(model, documents, Bytes()) == pytest.approx(math.log2(257))


def test_bytes_are_counted_not_characters_or_documents():
    model = tiny.model(vocab=257, context=16)
    documents = [document("é"), document("abcdef" * 9)]
    bits = evaluate.document_bits(model, Bytes().encode_many([d.text for d in documents]))
    found = evaluate.bits_per_byte(model, documents, Bytes())
    assert found == pytest.approx(bits.sum() / (2 + 54))


def test_a_model_keeps_its_mode_and_its_gradients():
    model = tiny.model().train()
    evaluate.document_bits(model, [[1, 2]])
    assert model.training
    model.eval()
    evaluate.document_bits(model, [[1, 2], []])
    assert not model.training


def test_bad_input_is_refused():
    model = tiny.model(context=16)
    with pytest.raises(ValueError, match="context must be 2 to 16, the model's own: 17"):
        evaluate.document_bits(model, [[1]], context=17)
    with pytest.raises(ValueError, match=r"documents\[1\] holds token 97; the model knows 0 to 96"):
        evaluate.document_bits(model, [[1], [97]])
    with pytest.raises(ValueError, match=r"documents\[0\] holds token -1"):
        evaluate.document_bits(model, [[-1, 96]])
    with pytest.raises(ValueError, match="no text: nothing to measure"):
        evaluate.bits_per_byte(model, [document("")], Bytes())
    with pytest.raises(ValueError, match="context must be 2 tokens or more: 1"):
        evaluate.windows(5, 1)
