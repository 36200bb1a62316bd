"""Every registered formula: its worked number, its faces, its units; what ties them together."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers import catalog, formulas
from helpers.book.mathml import to_mathml
from helpers.formulas import economics, kv_cache, network, quantization, registry, serving
from helpers.formulas import model_size as size
from helpers.formulas import roofline as r
from helpers.formulas import training as tr
from helpers.formulas.expression import evaluate, variable
from helpers.formulas.javascript import to_javascript
from helpers.formulas.symbols import Symbol

ALL = {f.name: f for f in formulas.all_formulas()}
each = pytest.mark.parametrize("name", ALL)
positive = st.floats(1e-3, 1e6)


def arguments_of(entry: formulas.registry.Formula) -> st.SearchStrategy:
    """Arguments in the allowed range of every symbol."""

    def values(symbol: Symbol) -> st.SearchStrategy:
        top = min(x for x in (symbol.at_most, symbol.below, 1e4) if x is not None)
        low = 0 if symbol.at_least is not None else 1e-2
        # right below a limit the geometric sum subtracts numbers alike to the last digits, and the
        # last digit of a power is the only thing that Python, numpy and a browser may differ in
        return st.floats(low, top if symbol.below is None else 0.99 * top)

    return st.fixed_dictionaries({a: values(s) for a, s in entry.symbols.items()})


# --- the registry ------------------------------------------------------------------------------


def test_there_are_formulas_of_every_chapter():
    # the memory chapter's come with it
    assert {f.chapter for f in ALL.values()} == set(registry.CHAPTERS) - {"memory"}
    assert [f.chapter for f in ALL.values()] == sorted(
        (f.chapter for f in ALL.values()), key=registry.CHAPTERS.index
    )


@each
def test_worked_number(name):
    entry = ALL[name]
    assert entry.compute_worked() == pytest.approx(entry.result, rel=1e-9)


@each
def test_record_is_complete(name):
    entry = ALL[name]
    assert entry.valid and entry.meaning[-1] != "." and entry.symbol and entry.unit
    if entry.source:
        assert catalog.source(entry.source) and entry.where
    module = __import__(entry.function.__module__, fromlist=[name])
    assert getattr(module, name) is entry.function
    assert entry.path.endswith(f".{name}")
    doc = entry.function.__doc__
    assert all(section in doc for section in ("Parameters\n---", "Returns\n---", "Examples\n---"))
    letters = [s.latex for s in entry.symbols.values()] + [entry.symbol]
    assert len(set(letters)) == len(letters), "one letter, one meaning"


@each
def test_latex_holds_every_symbol_and_becomes_mathml(name):
    entry = ALL[name]
    for symbol in entry.symbols.values():
        assert symbol.latex in entry.latex
    assert to_mathml(entry.latex, display=True).startswith("<math")


def test_get_suggests():
    assert formulas.get("ridge_point").function is r.ridge_point
    with pytest.raises(KeyError, match="did you mean ridge_point"):
        formulas.get("ridge_pont")
    with pytest.raises(ValueError, match="chapter: 'nowhere'"):
        formulas.all_formulas("nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"worked": {"seconds": 1}}, "worked: has"),
        ({"symbols": {"nobody": Symbol("x", "1", "x")}}, "are not arguments"),
        ({"chapter": "cooking"}, "chapter: 'cooking'"),
    ],
)
def test_a_faulty_record_is_refused(changes, message):
    record = {
        "meaning": "m",
        "symbol": "x",
        "unit": "1",
        "valid": "v",
        "worked": {"seconds": 1, "result": 1},
    }

    def scratch(seconds):
        return seconds

    with pytest.raises(ValueError, match=message):
        registry.formula(**(record | changes))(scratch)


def test_an_argument_without_a_symbol_is_refused():
    with pytest.raises(ValueError, match=r"none for \['mystery'\]"):

        @registry.formula(
            meaning="m", symbol="x", unit="1", valid="v", worked={"mystery": 1, "result": 1}
        )
        def scratch(mystery):
            return mystery


# --- one formula, many faces -------------------------------------------------------------------


@pytest.fixture(scope="module")
def javascript():
    """Call a function body in a JavaScript engine."""
    racer = pytest.importorskip("py_mini_racer").MiniRacer()

    def call(entry, arguments):
        result = entry.function(**{a: variable(a) for a in arguments})
        body = to_javascript([result])
        constants = "".join(f"const {line};" for line in body.constants)
        code = f"((v) => {{{constants} return {body.expressions[0]}}})"
        return racer.eval(f"{code}({json.dumps(arguments)})")

    return call


@each
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_number_array_expression_and_javascript_agree(javascript, name, data):
    entry = ALL[name]
    arguments = data.draw(arguments_of(entry))
    if name == "touched_experts":
        assume(arguments["top_k"] <= arguments["experts"])
    number = entry.function(**arguments)
    array = entry.function(**{a: np.array([v, v]) for a, v in arguments.items()})
    assert array.shape == (2,)
    traced = entry.function(**{a: variable(a, v) for a, v in arguments.items()})
    leaves = entry.function(**{a: variable(a) for a in arguments})
    others = [*array, traced.value, *evaluate([leaves], arguments), javascript(entry, arguments)]
    assert others == pytest.approx([number] * 5, rel=1e-12)


@each
def test_bad_arguments_are_named(name):
    entry = ALL[name]
    for argument, symbol in entry.symbols.items():
        good = dict(entry.worked)
        for bad in (-1.0, math.nan, math.inf):
            pattern = rf"{name}: {argument}: {bad} is not allowed; allowed is a finite number"
            with pytest.raises(ValueError, match=pattern):
                entry.function(**good | {argument: bad})
        with pytest.raises(ValueError, match=rf"{name}: {argument}: -2.0 is not allowed"):
            entry.function(**good | {argument: np.array([0.5, -2.0])})
        for wrong in ("1", None, True, [1.0]):
            with pytest.raises(TypeError, match=rf"{name}: {argument}: .* is a "):
                entry.function(**good | {argument: wrong})
        if symbol.above == 0:
            with pytest.raises(ValueError, match=f"{argument}: 0 is not allowed"):
                entry.function(**good | {argument: 0})
    with pytest.raises(TypeError, match="unexpected keyword"):
        entry.function(**entry.worked, surprise=1)


def test_a_result_that_is_no_number_is_an_error():
    with pytest.raises(ValueError, match="holds for: k at most E"):
        size.touched_experts(2, 5, 0.5)


# --- units -------------------------------------------------------------------------------------

BYTES = {"B": 1, "B/s": 1, "FLOP/B": -1}
SECONDS = {"s": 1, "B/s": -1, "FLOP/s": -1, "token/s": -1, "1/s": -1, "Hz": -1, "W": -1, "h": 1}
SECONDS |= {"$/h": -1}
KNOWN = {*BYTES, *SECONDS, "1", "FLOP", "J", "$", "token", "bit"}


#: achieved_share takes any unit; bandwidth_from_pins turns bits into bytes
UNIT_CASES = [
    (name, kind)
    for name in ALL
    for kind in ("byte", "second")
    if name != "achieved_share" and (name, kind) != ("bandwidth_from_pins", "byte")
]


@pytest.mark.parametrize(("name", "kind"), UNIT_CASES)
def test_units_agree_with_the_formula(name, kind):
    """Measure in half as large a unit: what is in that unit doubles, on both sides."""
    entry = ALL[name]
    powers = BYTES if kind == "byte" else SECONDS
    assert {s.unit for s in entry.symbols.values()} | {entry.unit} <= KNOWN
    scaled = {a: v * 2.0 ** powers.get(entry.symbols[a].unit, 0) for a, v in entry.worked.items()}
    expected = entry.result * 2.0 ** powers.get(entry.unit, 0)
    assert entry.function(**scaled) == pytest.approx(expected, rel=1e-9)


# --- properties --------------------------------------------------------------------------------


@given(intensity=positive, peak=positive, bandwidth=positive)
def test_attainable_is_under_both_roofs_and_touches_one(intensity, peak, bandwidth):
    best = r.attainable_flops_per_s(intensity, peak, bandwidth)
    assert best <= peak and best <= intensity * bandwidth
    assert best in (peak, intensity * bandwidth)
    assert (best == peak) == (intensity * bandwidth >= peak)


@given(flops=positive, moved=positive, peak=positive, bandwidth=positive)
def test_sum_is_between_one_and_two_maxima(flops, moved, peak, bandwidth):
    low = r.time_lower_bound(flops, moved, peak, bandwidth)
    high = r.time_upper_bound(flops, moved, peak, bandwidth)
    assert low <= high <= 2 * low
    rate = r.attainable_flops_per_s(r.arithmetic_intensity(flops, moved), peak, bandwidth)
    assert flops / rate == pytest.approx(low)
    with_link = r.time_lower_bound_with_link(flops, moved, 0, peak, bandwidth, 1)
    assert with_link == low


@given(m=positive, k=positive, n=positive, w=st.sampled_from([0.5, 1, 2, 4]))
def test_gemm(m, k, n, w):
    exact = r.gemm_flops(m, k, n) / r.gemm_bytes(m, k, n, w)
    assert r.gemm_intensity(m, k, n, w) == pytest.approx(exact)
    assert exact < r.weight_intensity(min(m, k, n), w), "never beyond what the shortest side allows"
    assert r.gemm_intensity(n, n, n, w) == pytest.approx(r.square_gemm_intensity(n, w))
    assert r.gemm_intensity(1, k, n, w) == pytest.approx(r.gemv_intensity(n, k, w))


@given(peak=positive, bandwidth=positive, w=st.sampled_from([0.5, 1, 2, 4]))
def test_what_is_said_to_sit_on_the_ridge_does(peak, bandwidth, w):
    ridge = r.ridge_point(peak, bandwidth)
    batch = r.batch_at_ridge(peak, bandwidth, w)
    assert r.weight_intensity(batch, w) == pytest.approx(ridge)
    n = r.square_gemm_at_ridge(peak, bandwidth, w)
    assert r.square_gemm_intensity(n, w) == pytest.approx(ridge)


@given(
    heads=st.integers(1, 16), group=st.integers(1, 8), dim=st.integers(1, 64), w=st.integers(1, 4)
)
def test_decode_attention_intensity_is_the_limit_of_long_contexts(heads, group, dim, w):
    limit = r.decode_attention_intensity(heads * group, heads, w)
    keys = 10**7
    flops = r.attention_flops(3, heads * group, keys, dim)
    moved = r.attention_bytes(3, heads * group, heads, 1, keys, dim, w)
    assert flops / moved == pytest.approx(limit, rel=1e-5)
    assert flops / moved < limit


@given(tokens=st.integers(1, 40), past=st.integers(0, 40))
def test_causal_pairs_by_counting(tokens, past):
    assert r.causal_pairs(tokens, past) == sum(past + i + 1 for i in range(tokens))


@given(peak=positive, i=st.tuples(positive, positive), b=st.tuples(positive, positive))
def test_levels(peak, i, b):
    both = r.attainable_two_levels(peak, i[0], b[0], i[1], b[1])
    assert both == r.attainable_at_levels(peak, [(i[0], b[0]), (i[1], b[1])])
    assert both == min(r.attainable_flops_per_s(x, peak, y) for x, y in zip(i, b, strict=True))
    with pytest.raises(ValueError, match="levels: is empty"):
        r.attainable_at_levels(peak, [])


@given(batch=st.integers(1, 512), weights=positive, kv=positive, bandwidth=positive)
def test_batched_decode_is_bounded_by_weights_and_by_cache(batch, weights, kv, bandwidth):
    rate = r.batched_decode_tokens_per_s(batch, weights, kv, bandwidth)
    assert rate <= batch * bandwidth / weights
    assert rate <= bandwidth / kv * (1 + 1e-12)
    assert rate >= r.batched_decode_tokens_per_s(1, weights, kv, bandwidth) * (1 - 1e-12)


@given(part=st.floats(0, 0.99), speedup=st.floats(1, 1e6))
def test_amdahl(part, speedup):
    assert 1 - 1e-12 <= r.amdahl_speedup(part, speedup) <= 1 / (1 - part) + 1e-9


@given(ranks=st.integers(2, 64), nbytes=positive, seconds=positive)
def test_bus_bandwidth_is_what_a_link_carried(ranks, nbytes, seconds):
    bus = network.all_reduce_bus_bandwidth(ranks, nbytes, seconds)
    assert bus == pytest.approx(network.all_reduce_bytes(ranks, nbytes) / seconds)
    factor = bus / network.algorithm_bandwidth(nbytes, seconds)
    assert factor == pytest.approx(2 * (ranks - 1) / ranks)


@given(acceptance=st.floats(0, 0.99), drafted=st.integers(0, 20))
def test_speculation_sums_the_chances(acceptance, drafted):
    chances = sum(acceptance**i for i in range(drafted + 1))
    tokens = serving.speculative_tokens_per_round(acceptance, drafted)
    assert tokens == pytest.approx(chances)


# --- known numbers, from papers, data sheets and measurements of others ------------------------

CASES = {
    "A100 ridge": (lambda: r.ridge_point(312e12, 2.0e12), 156.0),
    "A100 ridge, data sheet": (lambda: r.ridge_point(312e12, 2.039e12), 153.01618440412),
    "70B in FP16": (lambda: tr.training_state_bytes(70e9, 2), 140e9),
    "70B FP8 on B200": (lambda: r.decode_tokens_per_s(70e9, 1, 8e12), 114.285714286),
    "70B FP4 on B200": (lambda: r.decode_tokens_per_s(70e9, 0.5, 8e12), 228.571428571),
    "70B at 4.5 bits": (
        lambda: r.decode_tokens_per_s(70e9, quantization.bits_per_weight(4, 16, 8) / 8, 8e12),
        203.174603,
    ),
    "elementwise multiply": (lambda: r.elementwise_intensity(1, 2, 1, 4), 0.0833333333),
    "GEMM 64": (lambda: r.square_gemm_intensity(64, 2), 21.3333333),
    "GEMM 128": (lambda: r.square_gemm_intensity(128, 2), 42.6666667),
    "GEMM 256": (lambda: r.square_gemm_intensity(256, 2), 85.3333333),
    "GEMM 8192": (lambda: r.square_gemm_intensity(8192, 2), 2730.6666667),
    "4090 bandwidth share": (lambda: r.achieved_share(947.5, 1008), 0.9399801587),
    "4090 ridge": (lambda: r.ridge_point(165.2e12, 1008e9), 163.888888889),
    "4090 square GEMM": (lambda: r.square_gemm_at_ridge(165.2e12, 1008e9, 2), 491.6666667),
    "4090 GEMM share": (lambda: r.achieved_share(158.1, 165.2), 0.957021792),
    "n300 Llama-3.1-8B": (lambda: r.decode_tokens_per_s(8_030_261_248, 2, 576e9), 35.8643375),
    "A100 Mistral-7B": (lambda: r.decode_tokens_per_s(7_248_023_552, 2, 2.039e12), 140.6590),
    "A100 Llama-3.1-8B": (lambda: r.decode_tokens_per_s(8_030_261_248, 2, 2.039e12), 126.9573),
    "2 x A100 70B": (lambda: r.decode_tokens_per_s(70_553_706_496, 2, 2 * 2.039e12), 28.9000),
    "MI300X 70B": (lambda: r.decode_tokens_per_s(70_553_706_496, 2, 5.3e12), 37.5600),
    "8 x H100 405B": (lambda: r.decode_tokens_per_s(405e9, 1, 8 * 3.35e12), 66.1728395),
    "Adam": (lambda: tr.state_bytes_per_parameter(2, 2, 4, 4, 4), 16),
    "7B state over 8": (lambda: tr.training_state_bytes(7e9, 16) / 8, 14e9),
    "KV 7B": (
        lambda: kv_cache.kv_cache_bytes(kv_cache.kv_bytes_per_token(32, 32, 128, 2), 2048, 1),
        2**30,
    ),
    "KV 13B": (
        lambda: kv_cache.kv_cache_bytes(kv_cache.kv_bytes_per_token(40, 40, 128, 2), 4096, 1),
        3_355_443_200,
    ),
    "KV 70B, 32 requests": (
        lambda: kv_cache.kv_cache_bytes(kv_cache.kv_bytes_per_token(80, 8, 128, 2), 8192, 32),
        80 * 2**30,
    ),
    "KV capacity": (
        lambda: kv_cache.sequences_that_fit(57.41 * 2**30, 131_072, 8192),
        57,
    ),
    "NVFP4 against FP8": (
        lambda: 8 / quantization.bits_per_weight(4, 16, 8),
        1.7777777778,
    ),
    "speculative round": (lambda: serving.speculative_tokens_per_round(0.8, 4), 3.3616),
    "$ per million": (lambda: economics.dollars_per_million_tokens(2, 5000), 0.1111111111),
    "Llama-2-70B days": (
        lambda: 2e12 / tr.tokens_per_chip_second(2e12, 1_720_320) / 2000 / 86400,
        35.84,
    ),
    "Llama-2-70B MFU": (
        lambda: r.mfu(6 * 70e9, 2000 * tr.tokens_per_chip_second(2e12, 1_720_320), 2000, 312e12),
        0.434723,
    ),
    "Llama 3.1 405B": (lambda: tr.training_flops(405e9, 15.6e12), 3.7908e25),
    "fused softmax": (
        lambda: r.effective_bandwidth(r.softmax_bytes(2048, 1024, 4, 2), 20.4e-6),
        822.413e9,
    ),
    "NVLink 3 share": (
        lambda: r.achieved_share(network.all_reduce_bus_bandwidth(4, 2**31, 14.152e-3), 300e9),
        0.758720,
    ),
    "4090 bus": (lambda: r.bandwidth_from_pins(384, 21e9), 1008e9),
    "TPU v1": (lambda: r.peak_from_clock(65_536, 2, 700e6), 91.75e12),
}


@pytest.mark.parametrize("case", CASES)
def test_known_number(case):
    compute, expected = CASES[case]
    digits = len(re.sub(r"\D", "", f"{expected}".rstrip("0")).strip("0"))
    assert compute() == pytest.approx(expected, rel=max(1e-9, 10.0 ** -(min(digits, 9) - 1)))


def test_catalog_quantities_go_in():
    h100 = catalog.chip("h100-sxm")
    assert r.ridge_point(h100.peak("bf16"), h100.bandwidth) == pytest.approx(295.343, rel=1e-5)


def test_a_quantity_in_another_unit_is_refused():
    h100 = catalog.chip("h100-sxm")
    with pytest.raises(
        ValueError, match=r"ridge_point: peak_flops_per_s: 3.35 TB/s is in B/s; it takes FLOP/s"
    ):
        r.ridge_point(h100.bandwidth, h100.peak("bf16"))
    with pytest.raises(ValueError, match=r"bandwidth_bytes_per_s: .* is in W; it takes B/s"):
        r.ridge_point(peak_flops_per_s=1e12, bandwidth_bytes_per_s=h100.power)


@pytest.mark.parametrize(
    ("argument", "have", "wanted", "fits"),
    [
        ("peak_flops_per_s", "OP/s", "FLOP/s", True),  # an int8 peak has the same roof
        ("intensity", "OP/B", "FLOP/B", True),
        ("kv_bytes_per_token", "B/token", "B", True),
        ("nbytes", "B/token", "B", False),
        ("rent", "USD/h", "$/h", True),
        ("hours", "s", "h", False),
        ("share", "%", "1", True),
        ("nbytes", "", "B", True),
    ],
)
def test_which_units_may_stand_for_which(argument, have, wanted, fits):
    assert registry._agrees(have, wanted, argument) is fits


def test_arrays_that_do_not_fit_together_are_named():
    with pytest.raises(
        ValueError,
        match=r"do not fit together: peak_flops_per_s \(3,\), bandwidth_bytes_per_s \(2,\)",
    ):
        r.ridge_point(np.ones(3), np.ones(2))
    assert r.ridge_point(np.ones((3, 1)), np.ones(2)).shape == (3, 2)
