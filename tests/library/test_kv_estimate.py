"""The cache estimator against typed tables, against counting number by number, and a real log."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import catalog
from helpers.formulas.kv_element import ELEMENTS, KVElement
from helpers.formulas.kv_estimate import CacheEstimate
from helpers.formulas.kv_layer import LayerCache
from helpers.formulas.kv_layout import CacheLayout, layout_of

GIB = 2**30
#: bytes per token, context, bytes at full context: typed from the published shapes, 2-byte values
PUBLISHED = {
    "gpt2": (36_864, 1_024, 37_748_736),
    "gpt2-xl": (307_200, 1_024, 314_572_800),
    "llama-2-7b": (524_288, 4_096, 2_147_483_648),
    "llama-2-13b": (819_200, 4_096, 3_355_443_200),
    "llama-2-70b": (327_680, 4_096, 1_342_177_280),
    "llama-3.1-8b": (131_072, 131_072, 17_179_869_184),
    "llama-3.1-70b": (327_680, 131_072, 42_949_672_960),
    "llama-3.1-405b": (516_096, 131_072, 67_645_734_912),
    "mistral-7b-v0.1": (131_072, 32_768, 536_870_912),  # what the window of 4,096 holds
    "mistral-7b-v0.3": (131_072, 32_768, 4_294_967_296),
    "mixtral-8x7b": (131_072, 32_768, 4_294_967_296),
    "deepseek-v3": (70_272, 131_072, 9_210_691_584),
    "qwen2.5-0.5b": (12_288, 32_768, 402_653_184),
    "qwen2.5-7b": (57_344, 131_072, 7_516_192_768),
}


def by_hand(*layers, name="by hand"):
    return CacheLayout(name, layers)


# --- the slow, obvious reference ---------------------------------------------------------------


def stored_rows(layer, position, length, block_size, rank, ranks):
    """Widths of the rows that one rank stores of one slot of one layer, as a plain list."""
    if layer is None:
        return []
    kept = length if layer.window is None else min(length, layer.window)
    slots = 0
    while slots < kept:  # blocks are taken whole, one after another
        slots += block_size
    if position >= slots:
        return []
    if layer.kv_rank is not None:
        return [layer.kv_rank + layer.rope_dim]
    rows = []
    for query_head in range(layer.heads):
        # query heads go round the ranks in runs, and each needs the KV head of its group
        if query_head // (layer.heads // ranks) == rank:
            rows.append(query_head // (layer.heads // layer.kv_heads))
    value = layer.value_head_dim or layer.head_dim
    return [width for _ in set(rows) for width in (layer.head_dim, value)]


def counted_bytes(layout, element, block_size, ranks, length, rank):
    """Bytes on a rank, from the bits of every single number and every single scale."""
    bits = 0
    for layer in layout.layers:
        for position in range(length + block_size):
            for width in stored_rows(layer, position, length, block_size, rank, ranks):
                for index in range(width):
                    bits += element.bits
                    if element.scale_bits and index % (element.group or width) == 0:
                        bits += element.scale_bits
    assert bits % 8 == 0
    return bits // 8


@st.composite
def layers(draw):
    """A layer of any kind, small and of awkward size, or one without a cache."""
    window = draw(st.none() | st.integers(1, 9))
    heads = draw(st.sampled_from([1, 2, 3, 4, 6, 12]))
    kind = draw(st.sampled_from(["none", "latent", "separate", "separate"]))
    if kind == "none":
        return None
    # even, so that four bits fill whole bytes
    size = st.integers(1, 4).map(lambda half: 2 * half)
    if kind == "latent":
        return LayerCache(heads, kv_rank=draw(size), rope_dim=draw(size), window=window)
    kv_heads = draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0]))
    value = draw(st.none() | size)
    return LayerCache(heads, kv_heads, draw(size), value_head_dim=value, window=window)


SMALL_ELEMENTS = st.sampled_from(
    [ELEMENTS[name] for name in ("fp32", "bf16", "fp8", "int8", "int4")]
    + [KVElement("pairs", 4, scale_bits=8, group=2), KVElement("twelve bits", 12)]
)


@st.composite
def estimates(draw):
    found = draw(st.lists(layers(), min_size=1, max_size=4).filter(any))
    allowed = [ranks for ranks in range(1, 13) if all(divides(ranks, layer) for layer in found)]
    ranks = draw(st.sampled_from(allowed))
    return CacheEstimate(by_hand(*found), draw(SMALL_ELEMENTS), draw(st.integers(1, 5)), ranks)


def divides(ranks, layer):
    """Every rank has as many query heads, and as many KV heads or one that others have too."""
    if layer is None:
        return True
    by_head = layer.kv_heads or 1
    shared = ranks % by_head == 0 or by_head % ranks == 0 or layer.kv_rank is not None
    return layer.heads % ranks == 0 and shared


@given(estimate=estimates(), length=st.integers(0, 12), data=st.data())
def test_every_cached_number_is_counted(estimate, length, data):
    rank = data.draw(st.integers(0, estimate.tensor_parallel - 1))
    arguments = (estimate.layout, estimate.element, estimate.block_size, estimate.tensor_parallel)
    assert estimate.rank_sequence_bytes(length) == counted_bytes(*arguments, length, rank)


@given(estimate=estimates(), length=st.integers(0, 12))
def test_all_ranks_together(estimate, length):
    arguments = (estimate.layout, estimate.element, estimate.block_size, estimate.tensor_parallel)
    ranks = range(estimate.tensor_parallel)
    total = sum(counted_bytes(*arguments, length, rank) for rank in ranks)
    assert estimate.sequence_bytes(length) == total


# --- published models --------------------------------------------------------------------------


def test_the_table_names_every_model():
    assert set(PUBLISHED) == {model.id for model in catalog.models()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_exact(name):
    per_token, context, full = PUBLISHED[name]
    model = catalog.model(name)
    estimate = CacheEstimate(model)
    assert model.context == context
    assert estimate.bytes_per_token == per_token == model.kv_per_token
    assert estimate.sequence_bytes(context) == full
    assert type(estimate.sequence_bytes(context)) is int


def test_deepseek_decompressed():
    model = catalog.model("deepseek-v3")
    decompressed = CacheEstimate(layout_of(model, decompressed=True))
    assert decompressed.bytes_per_token == 4_997_120
    ratio = decompressed.bytes_per_token / CacheEstimate(model).bytes_per_token
    assert round(ratio, 1) == 71.1


def test_mistral_with_and_without_its_window():
    model = catalog.model("mistral-7b-v0.1")
    windowed, whole = CacheEstimate(model), CacheEstimate(layout_of(model, windowed=False))
    assert windowed.sequence_bytes(32_768) == GIB // 2
    assert whole.sequence_bytes(32_768) == 4 * GIB
    for tokens in (1, 4_095, 4_096):
        assert windowed.sequence_bytes(tokens) == whole.sequence_bytes(tokens)
    assert windowed.sequence_bytes(4_097) < whole.sequence_bytes(4_097)


WORKED = [  # model, tokens of each sequence, bytes
    ("llama-2-7b", [2_048], 1_073_741_824),
    ("llama-2-13b", [4_096], 3_355_443_200),
    ("llama-2-70b", [1], 327_680),
    ("llama-3.1-70b", [8_192], 2_684_354_560),
    ("llama-3.1-70b", [8_192] * 32, 85_899_345_920),
    ("llama-3.1-70b", [131_072], 42_949_672_960),
]


@pytest.mark.parametrize(("name", "lengths", "expected"), WORKED)
def test_worked_numbers(name, lengths, expected):
    assert CacheEstimate(catalog.model(name)).batch_bytes(lengths) == expected


SESSIONS = {  # of 8,192 tokens in 40 GiB
    "llama-2-7b": 10,
    "llama-3.1-8b": 40,
    "llama-3.1-70b": 16,
    "deepseek-v3": 74,
    "qwen2.5-0.5b": 426,
}


@pytest.mark.parametrize("name", SESSIONS)
def test_sessions_that_fit(name):
    assert CacheEstimate(catalog.model(name)).sequences_that_fit(40 * GIB, 8192) == SESSIONS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_narrower_formats(name):
    model = catalog.model(name)
    wide = CacheEstimate(model, "bf16").bytes_per_token
    assert CacheEstimate(model, "fp32").bytes_per_token == 2 * wide
    assert 2 * CacheEstimate(model, "fp8").bytes_per_token == wide
    # 16 bits over 4.5
    assert Fraction(wide, CacheEstimate(model, "nvfp4").bytes_per_token) == Fraction(32, 9)


# --- windows and stacks ------------------------------------------------------------------------


def test_a_stack_of_three_kinds():
    near = LayerCache(16, 4, 64, window=100)  # 1,024 B a token
    far = LayerCache(16, 4, 64)
    estimate = CacheEstimate(by_hand(*4 * (near, near, None, far)))
    assert estimate.bytes_per_token == 12 * 1_024
    assert estimate.sequence_bytes(1_000) == (8 * 100 + 4 * 1_000) * 1_024
    paged = CacheEstimate(estimate.layout, block_size=16)  # 112 and 1,008 slots
    assert paged.sequence_bytes(1_000) == (8 * 112 + 4 * 1_008) * 1_024


def test_tensor_parallel_by_hand():
    llama, deepseek = catalog.model("llama-3.1-70b"), catalog.model("deepseek-v3")
    per_rank = {
        ranks: CacheEstimate(llama, tensor_parallel=ranks).rank_bytes_per_token
        for ranks in (1, 2, 4, 8, 16, 64)
    }
    assert per_rank == {1: 327_680, 2: 163_840, 4: 81_920, 8: 40_960, 16: 40_960, 64: 40_960}
    sixteen = CacheEstimate(llama, tensor_parallel=16)
    assert (sixteen.bytes_per_token, sixteen.copies) == (655_360, 2)
    eight = CacheEstimate(deepseek, tensor_parallel=8)
    assert (eight.rank_bytes_per_token, eight.copies) == (70_272, 8)
