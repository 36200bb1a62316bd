"""The tokenizer: any text and any bytes come back, and the merges are applied as they should."""

from __future__ import annotations

import copy
import json
import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="TOKENIZERS IS NOT INSTALLED: nothing is tested here")

from helpers.lm import text, tokenizer

SAMPLES = (
    "",
    " ",
    "\n\n\n",
    "def f(x):\n    return x  # no more\n",
    "class A:\n\n\n    pass\n\ttabs\r\nand 'quotes' it's 1234567",
    "naïve café – 日本語 🎓 e\u0301",
    "<|end|>",
    "a\x00b\x7f",
)


@pytest.fixture(scope="module")
def shipped():
    return tokenizer.load()


def test_the_shipped_one_has_the_size_the_models_expect(shipped):
    assert len(shipped) == tokenizer.VOCABULARY == 4096
    assert shipped.end == 0
    spelled = [shipped.token_bytes(token) for token in range(1, len(shipped))]
    assert len(set(spelled)) == len(spelled) and b"" not in spelled  # no two tokens alike
    assert {bytes([byte]) for byte in range(256)} <= set(spelled)


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_come_back(shipped, sample):
    assert shipped.decode(shipped.encode(sample)) == sample


@given(st.text())
def test_any_text_comes_back(sample):
    shipped = tokenizer.load()
    tokens = shipped.encode(sample)
    assert shipped.decode(tokens) == sample
    assert shipped.end not in tokens
    assert tokens == shipped.encode_bytes(sample.encode("utf-8"))


@given(st.binary() | st.text().map(lambda said: said.encode("utf-8")[1:-1]))
def test_any_bytes_come_back(data):
    shipped = tokenizer.load()
    tokens = shipped.encode_bytes(data)
    assert shipped.decode_bytes(tokens) == data
    assert shipped.end not in tokens


def test_bytes_are_cut_where_utf8_ends():
    """Against the definition: valid stretches as text, every other byte alone."""
    shipped = tokenizer.load()
    alone = {byte: shipped.encode_bytes(bytes([byte]))[0] for byte in range(0x80, 0x100)}
    assert {byte: shipped.token_bytes(token) for byte, token in alone.items()} == {
        byte: bytes([byte]) for byte in alone
    }
    for data, want in (
        (b"return\xff\xfereturn", ["return", 0xFF, 0xFE, "return"]),
        (b"\xc3\xa9\xc3", ["é", 0xC3]),
        (b"\xed\xb2\x80", [0xED, 0xB2, 0x80]),  # a surrogate's three bytes are no UTF-8
        (b"\xf0\x9f\x8ea", [0xF0, 0x9F, 0x8E, "a"]),
    ):
        parts = [[alone[p]] if isinstance(p, int) else shipped.encode(p) for p in want]
        assert shipped.encode_bytes(data) == [token for part in parts for token in part]


def test_many_bad_bytes_take_time_in_proportion(shipped):
    """A minute, were the rest copied at every one of them."""
    data = b"\xffa" * 200_000
    started = time.perf_counter()
    assert len(shipped.encode_bytes(data)) == len(data)
    assert time.perf_counter() - started < 20


def test_the_end_of_text_cannot_be_written(shipped):
    """Whoever writes ``<|end|>`` into a prompt must not end it."""
    assert shipped.end not in shipped.encode("before<|end|>after")
    assert shipped.decode([shipped.end]) == ""


def test_half_a_character_is_shown_as_such(shipped):
    tokens = shipped.encode_bytes("é".encode()[:1])
    assert shipped.decode(tokens) == "\ufffd"


def test_many_at_once_are_as_one_by_one(shipped):
    assert shipped.encode_many(SAMPLES) == [shipped.encode(sample) for sample in SAMPLES]
    assert shipped.encode_many([]) == []


@given(st.text(alphabet="abcdef (){}=.,:'_\n\t0123", max_size=60))
def test_the_merges_are_applied_in_the_order_they_were_learned(sample):
    """Against byte-pair encoding as Sennrich et al. give it, on ASCII text."""
    shipped = tokenizer.load()
    model = json.loads(tokenizer.ASSET.read_text("utf-8"))["model"]
    rank = {tuple(pair): number for number, pair in enumerate(model["merges"])}
    symbols = tokenizer.byte_symbols()
    # words as GPT-2 cuts them; \p{L} and \p{N} are letters and digits here
    words = re.findall(
        r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", sample
    )
    want = []
    for word in words:
        parts = [symbols[byte] for byte in word.encode()]
        while True:
            ranks = [rank.get(pair, len(rank)) for pair in pairwise(parts)]
            if not ranks or min(ranks) == len(rank):
                break
            best = ranks.index(min(ranks))
            parts[best : best + 2] = ["".join(parts[best : best + 2])]
        want += [model["vocab"][part] for part in parts]
    assert shipped.encode(sample) == want


# --- training ---------------------------------------------------------------------------------

LITTLE = ["low lower lowest newer newest widest", "low new wide\n" * 20]


def test_training_merges_the_most_frequent_pairs_first():
    made = tokenizer.train(LITTLE, vocabulary=257 + 3)
    assert len(made) == 260 and made.end == 0
    learned = [made.token_bytes(token) for token in range(257, 260)]
    assert learned[0] == b"ow" or learned[0] == b"lo"  # "low" is in most words
    assert b"low" in learned


def test_training_twice_gives_the_same(tmp_path):
    first, second = (tokenizer.train(LITTLE, vocabulary=280) for _ in range(2))
    first.save(tmp_path / "a.json")
    second.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    again = tokenizer.Tokenizer((tmp_path / "a.json").read_text("utf-8"))
    assert again.encode("lowest of the low") == first.encode("lowest of the low")


@pytest.mark.slow
def test_the_shipped_one_is_trained_on_the_training_split_alone(shipped):
    from helpers.lm import datacard

    corpus = text.corpus()
    if any(line.startswith("train") for line in datacard.compare(datacard.load(), corpus)):
        pytest.skip("another Python: its text is not the one the tokenizer was trained on")
    made = tokenizer.train(document.text for document in corpus.train)
    assert [made.token_bytes(token) for token in range(4096)] == [
        shipped.token_bytes(token) for token in range(4096)
    ]


def test_documentation_and_code_get_shorter(shipped):
    """Three bytes a token and more on text as it was trained on."""
    sample = "    def __init__(self, name, value=None):\n        self.name = name\n" + (
        "Return a list of the names in the current local scope.\n"
    )
    assert len(sample) / len(shipped.encode(sample)) > 3


# --- bad input --------------------------------------------------------------------------------


def test_what_is_no_text_is_refused(shipped):
    with pytest.raises(TypeError, match="text must be a str, not bytes; see encode_bytes"):
        shipped.encode(b"abc")
    with pytest.raises(TypeError, match="data must be bytes, not str; see encode"):
        shipped.encode_bytes("abc")
    with pytest.raises(ValueError, match="text holds a lone surrogate"):
        shipped.encode("\ud800")
    with pytest.raises(ValueError, match=r"texts\[1\] holds a lone surrogate"):
        shipped.encode_many(["ok", "a\udc80b"])
    with pytest.raises(TypeError, match=r"texts\[1\] must be a str, not bytes"):
        shipped.encode_many(["ok", b"a"])
    with pytest.raises(TypeError, match="texts must be several texts, not a str"):
        shipped.encode_many("ok")


@pytest.mark.parametrize("token", [-1, 4096])
def test_a_token_outside_the_vocabulary_is_refused(shipped, token):
    with pytest.raises(ValueError, match=f"token {token} is not in the vocabulary 0..4095"):
        shipped.decode([1, token])


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(ValueError, match=r"257 .* or more: 256"):
        tokenizer.train(LITTLE, vocabulary=256)


def test_a_foreign_definition_is_refused():
    with pytest.raises(ValueError, match="no tokenizer in the tokenizers format"):
        tokenizer.Tokenizer("{}")
    definition = json.loads(tokenizer.ASSET.read_text("utf-8"))
    lacking = copy.deepcopy(definition)
    lacking["model"]["vocab"] = {"a": 0, "b": 1}
    lacking["model"]["merges"] = []
    with pytest.raises(ValueError, match="lacks byte 0, so it is not byte-level BPE"):
        tokenizer.Tokenizer(json.dumps(lacking))
    foreign = copy.deepcopy(definition)
    foreign["model"]["vocab"]["日"] = 4096
    with pytest.raises(ValueError, match="token 4096 holds '日', which stands for no byte"):
        tokenizer.Tokenizer(json.dumps(foreign))
    gap = copy.deepcopy(definition)
    gap["model"]["vocab"]["aqzq"] = 10**9  # would be a list of that length
    with pytest.raises(ValueError, match="4097 tokens are not numbered 0 to 4096"):
        tokenizer.Tokenizer(json.dumps(gap))
    endless = copy.deepcopy(definition)
    del endless["model"]["vocab"][tokenizer.END]
    with pytest.raises(ValueError, match=r"lacks <\|end\|>"):
        tokenizer.Tokenizer(json.dumps(endless))
