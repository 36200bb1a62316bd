"""The cache estimator against typed tables, against counting number by number, and a real log."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import catalog
from helpers.formulas import transformer
from helpers.formulas.checks import check_bytes, check_whole
from helpers.formulas.kv_element import ELEMENTS, KVElement, kv_element
from helpers.formulas.kv_estimate import CacheEstimate
from helpers.formulas.kv_layer import LayerCache
from helpers.formulas.kv_layout import CacheLayout, layout_of
from helpers.formulas.kv_startup import StartupLog, StartupPrediction, read_startup_log

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


@pytest.mark.parametrize("model", catalog.models(), ids=lambda model: model.id)
def test_every_model_of_the_catalog_is_served(model):
    estimate = CacheEstimate(model)
    assert estimate.bytes_per_token == model.kv_per_token == transformer.kv_bytes_per_token(model)
    kept = min(model.context, model.window or model.context)
    assert estimate.sequence_bytes(model.context) == kept * model.kv_per_token


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


# --- what fits ---------------------------------------------------------------------------------


@given(estimate=estimates(), tokens=st.integers(1, 12), free=st.integers(0, 5_000))
def test_sequences_fill_the_memory_and_no_more(estimate, tokens, free):
    fit = estimate.sequences_that_fit(free, tokens)
    assert estimate.rank_batch_bytes([tokens] * fit) <= free
    assert estimate.rank_batch_bytes([tokens] * (fit + 1)) > free


@given(estimate=estimates(), free=st.integers(0, 5_000))
def test_the_longest_sequence_is_found(estimate, free):
    longest = estimate.tokens_that_fit(free)
    windows = [layer.window for layer in estimate.layout.kinds()]
    if longest == math.inf:
        assert None not in windows
        assert estimate.rank_sequence_bytes(10**6) <= free
    else:
        assert longest % estimate.block_size == 0
        assert estimate.rank_sequence_bytes(longest) <= free
        assert estimate.rank_sequence_bytes(longest + 1) > free


@given(estimate=estimates(), tokens=st.integers(1, 12))
def test_memory_made_to_measure(estimate, tokens):
    need = estimate.rank_sequence_bytes(tokens)
    assert estimate.tokens_that_fit(need) >= tokens
    windows = [layer.window for layer in estimate.layout.kinds()]
    if None not in windows and tokens >= max(windows):
        assert estimate.tokens_that_fit(need) == math.inf
    elif estimate.rank_sequence_bytes(tokens - 1) < need:  # the first token of a block
        assert estimate.tokens_that_fit(need - 1) == tokens - 1


def test_one_token_more_is_noticed_at_any_length():
    estimate = CacheEstimate(by_hand(LayerCache(1, 1, 1)), "fp8", block_size=3)
    assert estimate.sequence_bytes(3 * 2**60) == 6 * 2**60
    assert estimate.sequence_bytes(3 * 2**60 + 1) == 6 * 2**60 + 6


@given(estimate=estimates(), free=st.fractions(0, 5_000))
def test_part_of_a_byte_holds_nothing(estimate, free):
    whole = math.floor(free)
    assert estimate.sequences_that_fit(free, 3) == estimate.sequences_that_fit(whole, 3)
    assert estimate.tokens_that_fit(free) == estimate.tokens_that_fit(whole)


@given(sequences=st.integers(1, 10**6), tokens=st.integers(1, 10**6), short=st.integers(0, 1))
def test_a_byte_too_few_is_noticed_at_any_size(sequences, tokens, short):
    # terabytes and more, where a float would round the missing byte away
    estimate = CacheEstimate(catalog.model("llama-3.1-405b"), block_size=16)
    free = sequences * estimate.rank_sequence_bytes(tokens) - short
    assert estimate.sequences_that_fit(free, tokens) == sequences - short


def test_free_memory_may_come_from_the_catalog():
    estimate = CacheEstimate(catalog.model("llama-3.1-8b"))
    h100 = catalog.chip("h100-sxm").capacity
    assert estimate.sequences_that_fit(h100, 8192) == 74  # 80 decimal GB over 1 GiB each
    assert estimate.tokens_that_fit(h100) == 610_351


@given(estimate=estimates(), lengths=st.lists(st.integers(0, 12), max_size=4))
def test_a_batch_is_its_sequences(estimate, lengths):
    alone = [estimate.sequence_bytes(tokens) for tokens in lengths]
    assert estimate.batch_bytes(lengths) == sum(alone)
    assert estimate.batch_bytes(iter(np.array(lengths, dtype=int))) == sum(alone)


# --- formats -----------------------------------------------------------------------------------

BITS = {  # per element of a row of 64 and of 128, scales included
    "fp64": (64, 64),
    "fp32": (32, 32),
    "bf16": (16, 16),
    "fp16": (16, 16),
    "fp8": (8, 8),
    "int8": (8.25, 8.125),
    "int4": (4.25, 4.125),
    "nvfp4": (4.5, 4.5),
    "mxfp4": (4.25, 4.25),
}


def test_bits_of_every_format():
    assert {
        name: (element.bits_per_element(64), element.bits_per_element(128))
        for name, element in ELEMENTS.items()
    } == BITS


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16", "int8", "int4"])
@pytest.mark.parametrize("head_dim", [32, 48, 96, 128])
def test_formats_are_those_of_the_books_own_cache(name, head_dim):
    torch = pytest.importorskip("torch")
    from helpers.serve.kv_format import kv_format

    parts = kv_format(name).encode(torch.zeros(1, head_dim))
    stored = sum(part.numel() * part.itemsize for part in parts)
    assert kv_element(name).bytes_per_element(head_dim) * head_dim == stored


def test_a_layer_of_two_sizes_of_rows_has_two_shares_of_scales():
    layer = LayerCache(4, 2, 192, value_head_dim=128)
    # two heads, each a key and a value of a byte a number, each row with two bytes of scale
    assert layer.bytes_per_token(ELEMENTS["int8"]) == 2 * (192 + 2 + 128 + 2)


# --- a server's log ----------------------------------------------------------------------------

LOGS = {  # model, ranks, GiB, tokens, concurrency, whole requests of 8,192 tokens
    "Mistral 7B": ("mistral-7b-v0.3", 1, "57.41", 470_288, 57.408, 57),
    "Llama 3.1 8B": ("llama-3.1-8b", 1, "55.20", 452_192, 55.199, 55),
    "Llama 3.3 70B on two": ("llama-3.3-70b", 2, "3.93", 25_728, 3.141, 3),
}


@pytest.mark.parametrize("case", LOGS)
def test_printed_counts_lie_within_the_rounding(case):
    name, ranks, gib, tokens, ratio, requests = LOGS[case]
    estimate = CacheEstimate(catalog.model(name), block_size=16, tensor_parallel=ranks)
    predicted = StartupPrediction(estimate, gib, request_tokens=8192)
    assert tokens in predicted.tokens
    assert predicted.concurrency(tokens) == pytest.approx(ratio, abs=5e-4)
    assert int(predicted.concurrency(tokens)) == requests
    assert estimate.sequences_that_fit(tokens * estimate.rank_bytes_per_token, 8192) == requests
    # the interval is no wider than a hundredth of a GiB and the blocks at its two ends
    assert len(predicted.tokens) <= 0.01 * GIB / (16 * estimate.rank_bytes_per_token) + 2
    # nor is it what another reading of the log would give
    for other in (
        CacheEstimate(estimate.layout, "fp8", 16, ranks),
        CacheEstimate(estimate.layout, "bf16", 16, 2 * ranks),
    ):
        assert tokens not in StartupPrediction(other, gib, 8192).tokens


def test_the_cache_of_one_gpu_of_two_is_not_that_of_both():
    alone = CacheEstimate(catalog.model("llama-3.3-70b"), block_size=16)
    assert 25_728 not in StartupPrediction(alone, "3.93", 8192).tokens
    assert 25_728 in StartupPrediction(alone, "7.86", 8192).tokens


@given(
    estimate=estimates(), free=st.integers(GIB // 100, 4 * GIB), blocks=st.integers(1_000, 9_999)
)
def test_whatever_the_memory_the_server_is_predicted(estimate, free, blocks):
    found = [layer and replace(layer, window=None) for layer in estimate.layout.layers]
    estimate = replace(estimate, layout=by_hand(*found))
    # the server: whole blocks of all layers, and the memory with two decimals
    block_bytes = estimate.rank_bytes_per_token * estimate.block_size
    count = free // block_bytes * estimate.block_size
    request = blocks * estimate.block_size
    predicted = StartupPrediction(estimate, f"{free / GIB:.2f}", request)
    assert count in predicted.tokens
    log = StartupLog(f"{free / GIB:.2f}", count, request, f"{count / request:.2f}")
    assert all(within for *_, within in predicted.compare(log))
    low, high = predicted.available_bytes
    assert low <= free <= high
    ends = [end // block_bytes * estimate.block_size for end in (low, high)]
    assert ends == [predicted.tokens[0], predicted.tokens[-1]]
    # and the interval is as narrow as it can be
    assert f"{low / GIB:.2f}" == f"{high / GIB:.2f}" == f"{free / GIB:.2f}"
    assert f"{(low - 1) / GIB:.2f}" != f"{low / GIB:.2f}"
    assert f"{(high + 1) / GIB:.2f}" != f"{high / GIB:.2f}"


@pytest.mark.parametrize("eighths", [1, 3, 5, 7])
@pytest.mark.parametrize("gib", [0, 1, 57])
def test_ties_of_the_rounding_belong_to_one_side(gib, eighths):
    tie = gib * GIB + eighths * GIB // 8  # such as 57.125 GiB, printed as 57.12
    estimate = CacheEstimate(by_hand(LayerCache(1, 1, 1)), "fp8")
    printed = f"{tie / GIB:.2f}"
    sides = {printed, f"{(tie - 1) / GIB:.2f}", f"{(tie + 1) / GIB:.2f}"}
    assert len(sides) == 2
    for side in sides:
        low, high = StartupPrediction(estimate, side, 1).available_bytes
        assert (low <= tie <= high) == (side == printed)


COMBINED = """
(EngineCore) INFO 01-01 [gpu_worker.py] Available KV cache memory: 3.94 GiB
(EngineCore) INFO 01-01 [gpu_worker.py] Available KV cache memory: 3.93 GiB
(EngineCore) INFO 01-01 GPU KV cache size: 25,728 tokens, Maximum concurrency for 8,192 tokens \
per request: 3.14x
"""
APART = """
INFO Available KV cache memory: 57.41 GiB
INFO GPU KV cache size: 470,288 tokens
INFO Maximum concurrency for 8,192 tokens per request: 57.41x
"""


def test_logs_are_read():
    assert read_startup_log(APART) == StartupLog("57.41", 470_288, 8_192, "57.41")
    # two ranks: the smaller memory decides
    assert read_startup_log(COMBINED) == StartupLog("3.93", 25_728, 8_192, "3.14")


def test_a_log_that_does_not_fit_is_told():
    mistral = CacheEstimate(catalog.model("mistral-7b-v0.3"), block_size=16)
    predicted = StartupPrediction(mistral, 57.41, 8192)
    assert [row[-1] for row in predicted.compare(read_startup_log(APART))] == [True, True]
    for tokens, ratio, expected in [
        (470_352, "57.42", [False, False]),  # a block too many
        (470_240, "57.40", [False, True]),  # a block too few
        (470_289, "57.41", [False, True]),  # no whole block
        (470_288, "114.82", [True, False]),
    ]:
        log = StartupLog("57.41", tokens, 8192, ratio)
        assert [row[-1] for row in predicted.compare(log)] == expected


WEIGHTS = {"mistral-7b-v0.3": 13.51, "llama-3.1-8b": 14.99}  # GiB, as a server printed them


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_in_gib(name):
    gib = 2 * transformer.parameters(catalog.model(name)) / GIB
    assert gib == pytest.approx(WEIGHTS[name], rel=0.0025)
    assert gib < WEIGHTS[name], "the server's buffers come on top"


# --- to read -----------------------------------------------------------------------------------


def test_a_summary_names_gib_and_ranks():
    text = CacheEstimate(catalog.model("deepseek-v3"), "fp8", 64, 8).summary(131_072)
    assert text.splitlines() == [
        "DeepSeek-V3: 61 x MLA 512 + 64",
        "fp8, blocks of 64 tokens, 8 ranks",
        "per token: 281,088 B = 274.5 KiB",
        "at 131,072 tokens: 36,842,766,336 B = 34.3125 GiB (36.8428 GB)",
        "on each rank: 4,605,345,792 B = 4.28906 GiB; the cache stands 8 times",
    ]
    assert str(CacheEstimate(catalog.model("gpt2"))) == "GPT-2 (124M) in bf16: 36 KiB per token"


# --- bad input ---------------------------------------------------------------------------------

LLAMA = catalog.model("llama-3.1-8b")
BAD_WHOLE = [0, -1, 1.5, True, "8", None, math.nan, math.inf, LLAMA.kv_per_token]


@pytest.mark.parametrize("value", BAD_WHOLE)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("heads", lambda x: LayerCache(x, 1, 8)),
        ("head_dim", lambda x: LayerCache(8, 8, x)),
        ("kv_heads", lambda x: LayerCache(8, x, 8)),
        ("rope_dim", lambda x: LayerCache(8, kv_rank=8, rope_dim=x)),
        ("block_size", lambda x: CacheEstimate(LLAMA, block_size=x)),
        ("tensor_parallel", lambda x: CacheEstimate(LLAMA, tensor_parallel=x)),
        ("bits", lambda x: KVElement("odd", x)),
        ("tokens", lambda x: CacheEstimate(LLAMA).sequences_that_fit(GIB, x)),
        ("request_tokens", lambda x: StartupPrediction(CacheEstimate(LLAMA), "1.00", x)),
        ("row", lambda x: ELEMENTS["bf16"].bits_per_element(x)),
    ],
)
def test_a_number_that_is_not_whole_is_named(name, call, value):
    with pytest.raises(ValueError, match=rf"^{name}: .*; allowed is a whole number of at least 1$"):
        call(value)


@pytest.mark.parametrize("value", [v for v in BAD_WHOLE if v is not None])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("window", lambda x: LayerCache(8, 8, 8, window=x)),
        ("value_head_dim", lambda x: LayerCache(8, 8, 8, value_head_dim=x)),
        ("group", lambda x: KVElement("odd", 4, 8, group=x)),
    ],
)
def test_an_optional_number_that_is_not_whole_is_named(name, call, value):
    with pytest.raises(ValueError, match=rf"^{name}: .*; allowed is a whole number of at least 1$"):
        call(value)


@pytest.mark.parametrize("value", [-1, True, "1", None, math.nan, math.inf, LLAMA.kv_per_token])
def test_memory_that_is_none_is_named(value):
    estimate = CacheEstimate(LLAMA)
    for call in (estimate.tokens_that_fit, lambda x: estimate.sequences_that_fit(x, 8)):
        with pytest.raises(ValueError, match=r"^rank_free_bytes: .*; allowed is a number of bytes"):
            call(value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LayerCache(32, 33, 8), "kv_heads: 33; allowed is a divisor of the 32 query heads"),
        (lambda: LayerCache(32, 5, 8), "kv_heads: 5; allowed is a divisor"),
        (lambda: LayerCache(32, kv_rank=-5, rope_dim=4), "kv_rank: -5; allowed"),
        (lambda: LayerCache(32, kv_rank=5), "rope_dim: None; allowed is a whole number"),
        (lambda: LayerCache(32, 8, 8, kv_rank=5, rope_dim=4), "kv_heads: 8; allowed is None with"),
        (lambda: LayerCache(32, head_dim=8, rope_dim=4), "head_dim: 8; allowed is None with"),
        (lambda: LayerCache(32, kv_rank=5, rope_dim=4, value_head_dim=2), "value_head_dim: 2; all"),
        (lambda: CacheLayout("x", LayerCache(8, 8, 8)), "layers: LayerCache.*; allowed is a seq"),
        (lambda: CacheLayout("x", "abc"), "layers: 'abc'; allowed is a sequence"),
        (lambda: CacheLayout("x", 3), "layers: 3; allowed is a sequence"),
        (
            lambda: by_hand(LayerCache(8, 8, 8), 7),
            r"layers\[1\]: 7; allowed is a LayerCache or None",
        ),
        (lambda: by_hand(None, None), "layers: none of 2 caches anything"),
        (lambda: by_hand(), "layers: none of 0 caches anything"),
        (lambda: layout_of("gpt2"), r"model: 'gpt2' .*write catalog.model\('gpt2'\)"),
        (lambda: layout_of(LLAMA, windowed=1), "windowed: 1; allowed is True or False"),
        (lambda: layout_of(LLAMA, decompressed="no"), "decompressed: 'no'; allowed"),
        (lambda: layout_of(LLAMA, decompressed=True), "decompressed: True; allowed with MLA only"),
        (lambda: CacheEstimate("gpt2"), r"model: 'gpt2' .*write catalog.model\('gpt2'\)"),
        (lambda: CacheEstimate(LLAMA, "fp9"), "element: 'fp9'; allowed is one of .*mean fp8"),
        (lambda: CacheEstimate(LLAMA, 16), "element: 16; allowed is one of"),
        (lambda: CacheEstimate(LLAMA, None), "element: None; allowed is one of"),
        (
            lambda: CacheEstimate(LLAMA, tensor_parallel=3),
            "tensor_parallel: 3; allowed is a divisor of the 32 query heads",
        ),
        (
            lambda: CacheEstimate(catalog.model("qwen2.5-0.5b"), tensor_parallel=7),
            "tensor_parallel: 7; allowed is a divisor or a multiple of the 2 KV heads",
        ),
        (
            lambda: CacheEstimate(by_hand(LayerCache(6, 6, 24)), "nvfp4"),
            "row: 24 elements; allowed is a multiple of 16",
        ),
        (
            lambda: CacheEstimate(by_hand(LayerCache(6, 6, 5)), "int4"),
            "row: 5 elements of int4 take 36 bits; allowed are rows that fill whole bytes",
        ),
        (lambda: KVElement("odd", 4, scale_bits=-1), "scale_bits: -1; allowed is .* at least 0"),
        (lambda: KVElement("odd", 4, group=8), "group: 8; allowed is None without scales"),
        (lambda: CacheEstimate(LLAMA).sequence_bytes(-1), "tokens: -1; allowed is .* at least 0"),
        (lambda: CacheEstimate(LLAMA).batch_bytes(5), "lengths: 5; allowed is a sequence"),
        (lambda: CacheEstimate(LLAMA).batch_bytes("55"), "lengths: '55'; allowed is a sequence"),
        (lambda: CacheEstimate(LLAMA).batch_bytes([5, 0.5]), r"lengths\[1\]: 0.5; allowed"),
        (lambda: StartupPrediction(LLAMA, "1.00", 16), "estimate: .*; allowed is a CacheEstimate"),
        (
            lambda: StartupPrediction(CacheEstimate(catalog.model("mistral-7b-v0.1")), "1.00", 16),
            "estimate: a layer of Mistral 7B v0.1 has a window of 4,096 tokens; allowed",
        ),
        (
            lambda: StartupPrediction(CacheEstimate(LLAMA, block_size=16), "1.00", 1000),
            "request_tokens: 1000; allowed is a multiple of the 16 tokens of a block",
        ),
        (
            lambda: StartupPrediction(CacheEstimate(LLAMA, block_size=16), "1.00", 32).concurrency(
                8
            ),
            "tokens: 8; allowed is a multiple of the 16 tokens",
        ),
        (
            lambda: StartupPrediction(CacheEstimate(LLAMA), "1.00", 16).compare("log"),
            "log: 'log'; allowed is a StartupLog",
        ),
        (
            lambda: StartupPrediction(CacheEstimate(LLAMA), "1.00", 16).compare(
                StartupLog("1.01", 16, 16, "1.00")
            ),
            "log: has available_gib 1.01; allowed is 1.00",
        ),
        (lambda: read_startup_log(5), "text: 5; allowed is the text of a log"),
        (
            lambda: read_startup_log("Available KV cache memory: 57.41 GiB"),
            "text: no line like .GPU",
        ),
        (
            lambda: read_startup_log(APART + APART.replace("470,288", "470,272")),
            "text: tokens stands there as 470272, 470288; allowed is the log of one server",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        call()


@pytest.mark.parametrize(
    "value", ["57.411", 57.411, "57.41 GiB", "", "nan", "inf", "1e30", 0, -1, True, None, 1_000_000]
)
def test_gib_that_no_server_prints_are_named(value):
    with pytest.raises(
        ValueError, match=r"^available_gib: .*; allowed is a number above 0 and below"
    ):
        StartupPrediction(CacheEstimate(LLAMA), value, 16)


def test_whole_numbers_of_other_types_are_taken():
    plain = CacheEstimate(LLAMA, block_size=16)
    for sixteen in (16.0, np.int64(16), np.float32(16), Fraction(16)):
        assert CacheEstimate(LLAMA, block_size=sixteen) == plain
        assert plain.sequence_bytes(sixteen) == plain.sequence_bytes(16)
        assert type(check_whole("n", sixteen)) is int
    assert check_bytes("n", 0.5) == Fraction(1, 2)
    assert StartupPrediction(plain, 57.5, 16) == StartupPrediction(plain, "57.50", 16)
