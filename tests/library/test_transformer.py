"""Model arithmetic against the counted totals of the catalog and against a real torch module."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import catalog
from helpers.catalog.records import Mla, Moe
from helpers.formulas import transformer as tf
from helpers.formulas.expression import evaluate, variable

torch = pytest.importorskip("torch")
from reference_transformer import build  # noqa: E402  (the reference needs torch)
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

MODELS = [model.id for model in catalog.models()]

# layers, d_model, parameters, active parameters, KV bytes per token and at full context: typed
# from the published shapes, once more and apart from the catalog
EXPECTED = {
    "gpt2": (124_439_808, 124_439_808, 36_864, 37_748_736),
    "gpt2-xl": (1_557_611_200, 1_557_611_200, 307_200, 314_572_800),
    "llama-2-7b": (6_738_415_616, 6_738_415_616, 524_288, 2 * 2**30),
    "llama-2-13b": (13_015_864_320, 13_015_864_320, 819_200, 3_355_443_200),
    "llama-2-70b": (68_976_648_192, 68_976_648_192, 327_680, 1_342_177_280),
    "llama-3.1-8b": (8_030_261_248, 8_030_261_248, 131_072, 16 * 2**30),
    "llama-3.1-70b": (70_553_706_496, 70_553_706_496, 327_680, 40 * 2**30),
    "llama-3.1-405b": (405_853_388_800, 405_853_388_800, 516_096, 63 * 2**30),
    "mistral-7b-v0.1": (7_241_732_096, 7_241_732_096, 131_072, 4 * 2**30),
    "mistral-7b-v0.3": (7_248_023_552, 7_248_023_552, 131_072, 4 * 2**30),
    "mixtral-8x7b": (46_702_792_704, 12_879_925_248, 131_072, 4 * 2**30),
    "deepseek-v3": (671_026_419_200, 37_552_297_472, 70_272, 70_272 * 131_072),
    "qwen2.5-0.5b": (494_032_768, 494_032_768, 12_288, 402_653_184),
    "qwen2.5-7b": (7_615_616_512, 7_615_616_512, 57_344, 7 * 2**30),
}


def small(**changes):
    """A model record of any shape, small enough to run."""
    shape = {
        "layers": 2,
        "d_model": 24,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 6,
        "ffn": 40,
        "vocab": 50,
        "context": 64,
    }
    return catalog.model("llama-3.1-8b").model_copy(update=shape | changes)


MLA = Mla(q_lora_rank=10, kv_lora_rank=8, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=5)
VARIANTS = {
    "gqa": small(),
    "gpt": small(
        kv_heads=4,
        norm="layernorm",
        positions="learned",
        mlp="gelu",
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        tied_embeddings=True,
    ),
    "window": small(window=3),
    "moe": small(moe=Moe(experts=5, experts_per_token=2, expert_ffn=12)),
    "mla": small(kv_heads=4, attention="mla", mla=MLA),
    "mla moe": small(
        layers=3,
        kv_heads=4,
        attention="mla",
        mla=MLA,
        moe=Moe(
            experts=6,
            experts_per_token=3,
            expert_ffn=12,
            shared_experts=2,
            dense_layers=1,
            router_bias=True,
        ),
    ),
}


@st.composite
def model_records(draw):
    """Random small models of every kind."""
    size = st.integers(1, 5)
    kv_heads, group, half = draw(size), draw(size), draw(size)
    changes = {
        "layers": draw(st.integers(1, 3)),
        "d_model": draw(st.integers(3, 17)),
        "heads": kv_heads * group,
        "kv_heads": kv_heads,
        "head_dim": 2 * half,
        "ffn": draw(st.integers(1, 23)),
        "vocab": draw(st.integers(2, 29)),
        "norm": draw(st.sampled_from(["layernorm", "rmsnorm"])),
        "positions": draw(st.sampled_from(["learned", "rope"])),
        "tied_embeddings": draw(st.booleans()),
        "output_bias": draw(st.booleans()),
        "window": draw(st.none() | st.integers(1, 9)),
    }
    if draw(st.booleans()):
        ranks = draw(st.tuples(size, size, size, size, size))
        changes["mla"] = Mla(
            q_lora_rank=ranks[0],
            kv_lora_rank=ranks[1],
            qk_nope_head_dim=ranks[2],
            qk_rope_head_dim=2 * ranks[3],
            v_head_dim=ranks[4],
        )
        changes |= {"attention": "mla", "kv_heads": kv_heads * group}
    else:
        changes["qkv_bias"] = draw(st.booleans())
    if draw(st.booleans()):
        experts = draw(st.integers(2, 6))
        changes["moe"] = Moe(
            experts=experts,
            experts_per_token=draw(st.integers(1, experts)),
            expert_ffn=draw(size),
            shared_experts=draw(st.integers(0, 2)),
            dense_layers=draw(st.integers(0, changes["layers"] - 1)),
            router_bias=draw(st.booleans()),
        )
    else:
        changes |= {
            "mlp": draw(st.sampled_from(["gelu", "swiglu"])),
            "mlp_bias": draw(st.booleans()),
        }
    return small(**changes)


def counted_flops(decoder, tokens, caches=None, **options):
    """FLOPs that torch itself counts: matrix products only."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        decoder(tokens, caches, **options)
    return counter.get_total_flops()


def matrix_flops(operations):
    """FLOPs of our operations that are matrix products."""
    chosen = [op for op in operations if op.kind in ("matmul", "attention")]
    return tf.summed(chosen).flops


def shapes_of(model):
    """Shapes of a model's tensors with how often each occurs."""
    found = Counter()
    for tensor in tf.tensors(model):
        found[tensor.name.replace("layers.", ""), tensor.shape] += tensor.count
    return found


def shapes_of_state(decoder):
    """The same, from a state dict."""
    found = Counter()
    for name, value in decoder.state_dict().items():
        parts = name.split(".")
        if parts[0] == "layers":
            parts = parts[2:]
        found[".".join(parts), tuple(value.shape)] += 1
    return found


# --- counts ------------------------------------------------------------------------------------


def test_every_model_has_expected_totals():
    assert set(MODELS) == set(EXPECTED)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_cache_are_exact(name):
    model = catalog.model(name)
    parameters, active, per_token, full = EXPECTED[name]
    assert tf.parameters(model) == parameters == model.parameters
    assert tf.active_parameters(model) == active == model.active_parameters
    assert tf.kv_bytes_per_token(model) == per_token == model.kv_per_token
    assert tf.kv_bytes_per_token(model) * model.context == full


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_of_real_models(name):
    model = catalog.model(name)
    # two layers of each kind are enough: the rest repeat them, and the totals are tested above
    dense = 0 if model.moe is None else min(model.moe.dense_layers, 1)
    changes = {"layers": 2 + dense}
    if model.moe is not None:
        changes["moe"] = model.moe.model_copy(update={"dense_layers": dense})
    model = model.model_copy(update=changes)
    decoder = build(model, "meta")
    assert shapes_of(model) == shapes_of_state(decoder)
    assert tf.parameters(model) == sum(p.numel() for p in decoder.parameters())


@settings(max_examples=25, deadline=None)
@given(model=model_records())
def test_state_dict_of_random_models(model):
    decoder = build(model, "meta")
    assert shapes_of(model) == shapes_of_state(decoder)
    assert tf.parameters(model) == sum(p.numel() for p in decoder.parameters())


# --- arithmetic --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    model=model_records(),
    batch=st.integers(1, 3),
    tokens=st.integers(1, 6),
    past=st.integers(0, 7),
    absorbed=st.booleans(),
    logits=st.sampled_from(["last", "all"]),
)
def test_flops_of_random_models(model, batch, tokens, past, absorbed, logits):
    absorbed = absorbed and model.mla is not None
    decoder = build(model)
    caches = None
    if past:
        with torch.no_grad():
            _, caches = decoder(torch.ones(batch, past, dtype=torch.long))
    new = torch.ones(batch, tokens, dtype=torch.long)
    counted = counted_flops(decoder, new, caches, absorbed=absorbed, logits=logits)
    # the explicit attention of the reference computes the full square and then masks it, and
    # knows no window before the mask: that is what causal=False counts without a window
    plain = model.model_copy(update={"window": None})
    ours = tf.forward_operations(
        plain, batch, tokens, past, absorbed=absorbed, causal=False, logits=logits
    )
    assert matrix_flops(ours) == counted


@pytest.mark.parametrize("name", MODELS)
def test_flops_of_real_models_on_meta_tensors(name):
    model = catalog.model(name).model_copy(update={"window": None})
    layers = min(model.layers, 5)  # past DeepSeek's three dense layers; the rest repeat
    model = model.model_copy(update={"layers": layers})
    decoder = build(model, "meta")
    tokens = torch.empty(2, 32, dtype=torch.long, device="meta")
    counted = counted_flops(decoder, tokens, logits="last")
    assert matrix_flops(tf.prefill(model, 2, 32, causal=False)) == counted


@pytest.mark.parametrize("kind", ["mla", "mla moe"])
def test_absorbed_and_decompressed_forms_agree(kind):
    decoder = build(VARIANTS[kind], dtype=torch.float64)
    prompt, new = torch.arange(10).view(2, 5), torch.tensor([[7], [9]])
    _, caches = decoder(prompt)
    one, _ = decoder(new, caches, absorbed=True)
    two, _ = decoder(new, caches, absorbed=False)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("kind", VARIANTS)
def test_reference_with_a_cache_equals_without(kind):
    # the reference must be a sound model, else its counts mean nothing
    decoder = build(VARIANTS[kind], dtype=torch.float64)
    tokens = torch.arange(12).view(2, 6)
    whole, _ = decoder(tokens)
    _, caches = decoder(tokens[:, :4])
    rest, _ = decoder(tokens[:, 4:], caches)
    torch.testing.assert_close(rest, whole[:, 4:])


@given(tokens=st.integers(1, 30), past=st.integers(0, 30), window=st.none() | st.integers(1, 40))
def test_attended_pairs_by_counting(tokens, past, window):
    seen = itertools.product(range(past, past + tokens), range(past + tokens))
    pairs = sum(key <= query and (window is None or key > query - window) for query, key in seen)
    assert tf.attended_pairs(tokens, past, window) == pairs


# --- bytes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_decode_reads_every_weight_but_the_embedding(name):
    model = catalog.model(name)
    step = tf.summed(tf.decode_step(model, batch=1, context=100))
    rows = model.d_model * (2 if model.positions == "learned" else 1)
    expected = tf.active_parameters(model) - tf.embedding_parameters(model) + rows
    assert step.weights == pytest.approx(expected, rel=1e-12)
    assert step.weight_bytes == pytest.approx(2 * expected, rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("context", [0, 1000])
def test_decode_reads_the_cache_once(name, context):
    model = catalog.model(name)
    step = tf.summed(tf.decode_step(model, batch=3, context=context))
    visible = context + 1 if model.window is None else min(context + 1, model.window)
    # every cached token is read once, and each new one was written first
    assert step.kv_bytes == tf.kv_bytes_per_token(model) * 3 * (visible + 1)


@settings(max_examples=25, deadline=None)
@given(
    model=model_records(),
    batch=st.integers(1, 4),
    tokens=st.integers(1, 50),
    past=st.integers(0, 50),
)
def test_bytes_and_flops_grow_with_the_work(model, batch, tokens, past):
    ops = tf.forward_operations(model, batch, tokens, past)
    assert all(op.flops >= 0 and op.bytes > 0 for op in ops)
    more = tf.summed(tf.forward_operations(model, batch + 1, tokens, past))
    total = tf.summed(ops)
    assert more.flops > total.flops and more.bytes > total.bytes
    narrow = tf.summed(tf.forward_operations(model, batch, tokens, past, bytes_per_weight=1))
    assert narrow.weight_bytes == total.weight_bytes / 2
    assert narrow.flops == total.flops


@settings(max_examples=25, deadline=None)
@given(experts=st.integers(2, 12), data=st.data())
def test_touched_experts_against_drawing(experts, data):
    top_k = data.draw(st.integers(1, experts))
    tokens = data.draw(st.integers(1, 8))
    generator = torch.Generator().manual_seed(experts * 100 + top_k * 10 + tokens)
    trials = 2000
    scores = torch.rand(trials, tokens, experts, generator=generator)
    chosen = scores.topk(top_k).indices.flatten(1)  # (trials, tokens k)
    hit = torch.zeros(trials, experts).scatter_(1, chosen, 1.0).sum(1)
    expected = tf.touched_experts(experts, top_k, tokens)
    # hits of different experts hinder each other, so independent ones would vary more; the last
    # term is for misses so rare that the trials may hold none
    error = math.sqrt(expected * (experts - expected) / experts / trials) if top_k < experts else 0
    assert abs(hit.mean().item() - expected) <= 5 * error + 6 / trials


def test_touched_experts_at_the_ends():
    assert tf.touched_experts(256, 8, 1) == pytest.approx(8, rel=1e-12)
    assert tf.touched_experts(8, 8, 3) == 8
    assert tf.touched_experts(256, 8, 10_000) == pytest.approx(256)


def test_a_batch_of_one_uses_half_the_memory_traffic_of_all_experts():
    model = catalog.model("mixtral-8x7b")
    one = tf.summed(tf.decode_step(model, 1, 0)).weight_bytes
    everything = tf.summed(tf.decode_step(model, 1, 0, experts_touched=8)).weight_bytes
    assert everything / 2 == pytest.approx(
        tf.parameters(model) - tf.embedding_parameters(model) + model.d_model
    )
    assert one < everything / 3


# --- use ---------------------------------------------------------------------------------------


def test_operations_take_expressions():
    batch, context = variable("batch"), variable("context")
    model = catalog.model("llama-3.1-8b")
    traced = tf.summed(tf.decode_step(model, batch, context, bytes_per_kv=1))
    plain = tf.summed(tf.decode_step(model, 7, 300, bytes_per_kv=1))
    values = evaluate([traced.flops, traced.bytes, traced.intensity], {"batch": 7, "context": 300})
    assert values == pytest.approx([plain.flops, plain.bytes, plain.intensity], rel=1e-12)


def test_operation_bound_and_time():
    op = tf.Operation("x", "matmul", 3, flops=100, activation_bytes=10)
    assert op.bound(1000, 50) == "memory"
    assert op.bound(1000, 200) == "compute"
    assert op.seconds(1000, 50) == 3 * 0.2
    assert op.seconds(1000, 200) == 3 * 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: tf.layer_operations(m, batch=0), "batch: 0; allowed"),
        (lambda m: tf.layer_operations(m, tokens=-1), "tokens: -1; allowed"),
        (lambda m: tf.layer_operations(m, past=-1), "past: -1; allowed"),
        (lambda m: tf.layer_operations(m, batch=1.5), "batch: 1.5; allowed is a whole number"),
        (lambda m: tf.layer_operations(m, batch=True), "batch: True; allowed"),
        (lambda m: tf.layer_operations(m, tokens="9"), "tokens: '9'; allowed is a whole number"),
        (lambda m: tf.layer_operations(m, tokens=math.nan), "tokens: nan; allowed"),
        (lambda m: tf.layer_operations(m, past=math.inf), "past: inf; allowed"),
        (lambda m: tf.decode_step(m, context=0.5), "context: 0.5; allowed is a whole number"),
        (lambda m: tf.layer_operations(m, bytes_per_kv="1"), "bytes_per_kv: '1'; allowed"),
        (lambda m: tf.layer_operations(m, bytes_per_weight=0), "bytes_per_weight: 0; allowed"),
        (lambda m: tf.layer_operations(m, absorbed=True), "absorbed: True; allowed with MLA"),
        (lambda m: tf.forward_operations(m, logits="none"), "logits: 'none'; allowed"),
        (
            lambda m: tf.layer_operations(catalog.model("mixtral-8x7b"), dense=True),
            "no layer without experts",
        ),
        (
            lambda m: tf.layer_operations(catalog.model("mixtral-8x7b"), experts_touched=9),
            "experts_touched: 9; allowed",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(catalog.model("llama-3.1-8b"))


def test_whole_numbers_of_other_types_are_taken():
    model = catalog.model("gpt2")
    plain = tf.summed(tf.prefill(model, 2, 64))
    for eight in (64.0, np.int64(64), np.float32(64)):
        assert tf.summed(tf.prefill(model, 2, eight)) == plain


@pytest.mark.parametrize("model", ["gpt2", None, 7])
@pytest.mark.parametrize(
    "call",
    [
        tf.layer_operations,
        tf.forward_operations,
        tf.prefill,
        tf.decode_step,
        tf.kv_bytes_per_token,
        lambda model: tf.memory_bound_count(model, 1, 1, 0, 1e12, 1e12),
    ],
)
def test_a_model_that_is_no_record_is_named(call, model):
    with pytest.raises(TypeError, match=r"model: .* write catalog.model\('"):
        call(model)
