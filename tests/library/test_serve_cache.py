"""Both caches and their formats: what is stored, how many bytes it takes, what comes back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tiny
from helpers.formulas.kv_cache import kv_blocks, kv_cache_bytes, paged_kv_cache_bytes
from helpers.lm.config import ModelConfig
from helpers.serve.cache import ContiguousCache, PagedCache, bytes_per_token, causal_mask
from helpers.serve.kv_format import FLOATS, Int4Format, Int8Format, KVFormat, kv_format

FORMATS = [*FLOATS, "int8", "int4"]
each_format = pytest.mark.parametrize("dtype", FORMATS, ids=str)

#: heads to one head of keys and values: 1 (multi-head), 2, 4; and heads that do not fill d_model
SHAPES = [
    {"heads": 4, "kv_heads": 4},
    {"heads": 4, "kv_heads": 2},
    {"heads": 4, "kv_heads": 1},
    {"heads": 4, "kv_heads": 2, "head_dim": 6},
]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def model(request):
    return tiny.model(**request.param)


def greedy(model, prompt, count):
    """The slow way: the whole text through the model for each token."""
    tokens, scores = list(prompt), []
    for _ in range(count):
        scores.append(model(torch.tensor(tokens))[-1])
        tokens.append(int(scores[-1].argmax()))
    return tokens[len(prompt) :], torch.stack(scores)


# --- contiguous ----------------------------------------------------------------------------------


@torch.inference_mode()
def test_cached_is_uncached(model):
    for seed, prompt in enumerate(tiny.prompts(seed=1, count=4, longest=17)):
        expected, scores = greedy(model, prompt, 9)
        cache = ContiguousCache(model.config, 1, len(prompt) + 9, dtype=model.dtype)
        tokens, fed = [], prompt
        for step in range(9):
            logits = model.logits(cache.forward(model, torch.tensor([fed]))[0, -1])
            torch.testing.assert_close(logits, scores[step], rtol=0, atol=1e-12)
            tokens.append(int(logits.argmax()))
            fed = tokens[-1:]
        assert tokens == expected, f"prompt {seed}"


@settings(max_examples=10)
@given(
    cuts=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    batch=st.integers(1, 3),
    seed=st.integers(0, 9),
)
@torch.inference_mode()
def test_pieces_are_the_whole(cuts, batch, seed):
    """Prefill in pieces of any length, rows of a batch side by side."""
    model = tiny.model()
    length = sum(cuts)
    tokens = torch.randint(97, (batch, length), generator=torch.Generator().manual_seed(seed))
    cache = ContiguousCache(model.config, batch, length, dtype=model.dtype)
    pieces = torch.cat([cache.forward(model, piece) for piece in tokens.split(cuts, dim=1)], dim=1)
    torch.testing.assert_close(pieces, model.hidden(tokens), rtol=0, atol=1e-12)
    assert cache.length == length


@torch.inference_mode()
def test_truncated_tokens_leave_no_trace(model):
    tokens = torch.randint(97, (2, 12), generator=torch.Generator().manual_seed(4))
    cache = ContiguousCache(model.config, 2, 12, dtype=model.dtype)
    cache.forward(model, tokens[:, :5])
    cache.forward(model, torch.zeros(2, 6, dtype=torch.int64))  # guesses, all wrong
    cache.truncate(5)
    rest = cache.forward(model, tokens[:, 5:])
    torch.testing.assert_close(rest, model.hidden(tokens)[:, 5:], rtol=0, atol=1e-12)


def test_a_contiguous_cache_refuses_what_does_not_fit():
    model = tiny.model()
    cache = ContiguousCache(model.config, 1, 4, dtype=model.dtype)
    with pytest.raises(ValueError, match="tokens: 5 more do not fit; the cache holds 0 of 4"):
        cache.forward(model, torch.zeros(1, 5, dtype=torch.int64))
    cache.forward(model, torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="tokens: 2 more do not fit; the cache holds 3 of 4"):
        cache.forward(model, torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="length is 4; the cache can be cut to 0 to 3"):
        cache.truncate(4)
    with pytest.raises(ValueError, match="q has 2 rows; the cache holds a batch of 1"):
        cache.forward(model, torch.zeros(2, 1, dtype=torch.int64))


def test_gradients_do_not_enter_a_cache():
    model = tiny.model().requires_grad_(True)
    cache = ContiguousCache(model.config, 1, 4, dtype=model.dtype)
    cache.forward(model, torch.tensor([[1, 2]]))
    assert not cache.keys[0].requires_grad
    cache.forward(model, torch.tensor([[3]]))


# --- bytes ---------------------------------------------------------------------------------------


@each_format
@pytest.mark.parametrize("sizes", [(1, 1, 2, 1, 1), (3, 2, 6, 5, 3), (2, 5, 24, 7, 16)], ids=str)
def test_predicted_bytes_are_allocated_bytes(dtype, sizes):
    layers, kv_heads, head_dim, blocks, block_size = sizes
    config = tiny.config(layers=layers, heads=kv_heads, kv_heads=kv_heads, head_dim=head_dim)
    paged = PagedCache(config, blocks, block_size, dtype=dtype)
    contiguous = ContiguousCache(config, blocks, block_size, dtype=dtype)
    assert paged.bytes == paged.predicted_bytes
    assert contiguous.bytes == contiguous.predicted_bytes == paged.bytes
    # and not by the classes' own word: every tensor they hold, its storage once
    for cache in (paged, contiguous):
        storages = {part.untyped_storage().data_ptr(): part for part in cache.keys + cache.values}
        assert sum(part.untyped_storage().nbytes() for part in storages.values()) == cache.bytes


def test_bytes_by_hand():
    """2 x 32 layers x 8 heads x 128 x 2 bytes; int8: 128 + 2 of scale; int4: 64 + 2."""
    llama = ModelConfig.from_catalog("llama-3.1-8b")
    sizes = {name: bytes_per_token(llama, kv_format(name)) for name in ("bfloat16", "int8", "int4")}
    assert sizes == {
        "bfloat16": 2 * 32 * 8 * 256,
        "int8": 2 * 32 * 8 * 130,
        "int4": 2 * 32 * 8 * 66,
    }


@given(lengths=st.lists(st.integers(0, 200), min_size=1, max_size=8), size=st.integers(1, 33))
def test_paging_wastes_less_than_a_block_for_each_sequence(lengths, size):
    per_token = 1024
    blocks = sum(kv_blocks(length, size) for length in lengths)
    paged = paged_kv_cache_bytes(per_token, blocks, size)
    needed = sum(kv_cache_bytes(per_token, length, 1) for length in lengths if length)
    assert 0 <= paged - needed <= len(lengths) * (size - 1) * per_token


# --- formats -------------------------------------------------------------------------------------


@each_format
@settings(max_examples=15)
@given(seed=st.integers(0, 99), scale=st.sampled_from([1e-9, 1.0, 1e5]))
def test_a_row_comes_back_within_half_a_step(dtype, seed, scale):
    stored = kv_format(dtype)
    rows = torch.randn(5, 2, 8, generator=torch.Generator().manual_seed(seed)).double() * scale
    rows[0, 0] = 0.0
    back = stored.decode(stored.encode(rows), torch.float64)
    assert back.dtype == torch.float64 and back.shape == rows.shape
    assert not back[0, 0].any()
    if isinstance(stored, Int8Format):
        steps = 7 if dtype == "int4" else 127
        step = rows.abs().amax(-1, keepdim=True) / steps
        allowed = step * (0.5 + 2**-9)  # the scale itself is rounded to 8 bits
    else:
        assume(not (stored.dtype == torch.float16 and scale != 1.0))  # its range is narrow
        allowed = rows.abs() * torch.finfo(stored.dtype).eps / 2 + 2**-25
    assert ((back - rows).abs() <= allowed).all()


def test_the_four_bit_codes_do_not_touch_their_neighbours():
    codes = torch.arange(-7.0, 8.0).repeat(2)[:30].reshape(1, 30)
    packed, scale = Int4Format().encode(codes)
    assert packed.shape == (1, 15) and scale.item() == 1.0
    assert torch.equal(Int4Format().decode((packed, scale), torch.float32), codes)


def test_extreme_rows_stay_finite():
    for dtype, largest in ((torch.float32, 3e38), (torch.float16, 65_504.0)):
        rows = torch.tensor([[1e-7, 0.0], [0.0, 0.0], [largest, -largest]], dtype=dtype)
        for stored in (Int8Format(), Int4Format()):
            assert stored.decode(stored.encode(rows), torch.float32).isfinite().all()


@pytest.mark.parametrize("wrong", ["int3", torch.int64, None, 8, "torch.int9"])
def test_an_unknown_format_is_refused(wrong):
    with pytest.raises(ValueError, match=r"dtype is .*; it must be one of float64, .*int8, int4"):
        kv_format(wrong)


def test_names_of_formats():
    assert [kv_format(dtype).name for dtype in FORMATS] == [
        "float64",
        "float32",
        "bfloat16",
        "float16",
        "int8",
        "int4",
    ]
    assert kv_format("torch.float16").dtype == torch.float16
    own = KVFormat(torch.float16)
    assert kv_format(own) is own


# --- paged ---------------------------------------------------------------------------------------


@each_format
def test_what_is_written_to_slots_is_read_and_gathered_and_copied(dtype):
    config = tiny.config()
    cache = PagedCache(config, blocks=4, block_size=3, dtype=dtype)
    draw = torch.Generator().manual_seed(0)
    k, v = (torch.randn(3, 2, 8, generator=draw).double() for _ in range(2))
    expected = [cache.format.decode(cache.format.encode(x), torch.float64) for x in (k, v)]
    cache.write(1, torch.tensor([4, 9, 5]), k, v)  # block 1, places 1 and 2; block 3, place 0
    cache.copy([(1, 0), (3, 1), (0, 3)])  # in this order
    for x, want in zip(cache.read(1, slice(9, 12), torch.float64), expected, strict=True):
        assert torch.equal(x[1], want[0]) and torch.equal(x[2], want[2]) and not x[0].any()
    gathered = cache.gather(1, torch.tensor([1, 0]), torch.float64)
    for x, want in zip(gathered, expected, strict=True):
        assert x.shape == (6, 2, 8)
        assert torch.equal(x[0], want[1]) and torch.equal(x[4:], want[[0, 2]])
    assert not any(part[0].any() for part in cache.keys if part.dtype != torch.uint8)
    cache.write(1, slice(9, 11), k[:2], v[:2])
    assert torch.equal(cache.read(1, slice(9, 11), torch.float64)[1], expected[1][:2])


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        (PagedCache, (0, 4), "blocks is 0; it must be a whole number, 1 or more"),
        (PagedCache, (4, 2.0), "block_size is 2.0; it must be a whole"),
        (ContiguousCache, (True, 4), "batch is True; it must be a whole"),
        (ContiguousCache, (1, -1), "capacity is -1; it must be a whole"),
    ],
)
def test_sizes_are_checked(kind, sizes, message):
    with pytest.raises(ValueError, match=message):
        kind(tiny.config(), *sizes)


def test_a_mask_shows_all_before_and_itself():
    shown = causal_mask(past=3, new=4, dtype=torch.float64, device=torch.device("cpu")) == 0
    assert [row.sum().item() for row in shown] == [4, 5, 6, 7]
    assert all(row[: 4 + i].all() for i, row in enumerate(shown))
