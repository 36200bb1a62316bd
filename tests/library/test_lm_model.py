"""The transformer against a slow one of plain loops, its counts against the catalog, bad sizes.

Against transformers, with the same weights: test_lm_loading.py.
"""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import tiny  # noqa: E402
from helpers import catalog  # noqa: E402
from helpers.formulas import model_size  # noqa: E402
from helpers.lm.config import SIZES, ModelConfig, RopeScaling  # noqa: E402
from helpers.lm.model import Transformer, causal_attention, rotary_frequencies  # noqa: E402

# ---- a slow reference ----------------------------------------------------------------------------
# One token at a time, one head at a time, queries, keys, values, gate and up apart, rotary pairs as
# complex numbers. Nothing in it is shared with the module.


def slow_norm(x, weight, eps):
    return x / math.sqrt(sum(value * value for value in x) / len(x) + eps) * weight


def slow_frequencies(config):
    found = []
    for pair in range(config.head_dim // 2):
        frequency = config.rope_theta ** (-2 * pair / config.head_dim)
        if (s := config.rope_scaling) is not None:
            wavelength = 2 * math.pi / frequency
            if wavelength > s.original_context / s.low_freq_factor:
                frequency = frequency / s.factor
            elif wavelength > s.original_context / s.high_freq_factor:
                smooth = (s.original_context / wavelength - s.low_freq_factor) / (
                    s.high_freq_factor - s.low_freq_factor
                )
                frequency = (1 - smooth) * frequency / s.factor + smooth * frequency
        found.append(frequency)
    return found


def slow_rotate(head, position, frequencies):
    """Channel i is the real part of a number, channel i + D/2 the imaginary part."""
    half = len(head) // 2
    turned = [
        complex(head[i], head[i + half]) * complex(math.cos(position * f), math.sin(position * f))
        for i, f in enumerate(frequencies)
    ]
    return np.array([z.real for z in turned] + [z.imag for z in turned])


def slow_logits(model, tokens):
    config = model.config
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    frequencies, size = slow_frequencies(config), config.head_dim
    stream = [w["embedding.weight"][token] for token in tokens]
    for layer in range(config.layers):
        part = f"layers.{layer}."
        matrix = w[part + "attention.qkv.weight"]
        bias = w.get(part + "attention.qkv.bias", np.zeros(len(matrix)))
        rows = [[], [], []]  # of each token: heads of queries, of keys, of values
        for position, x in enumerate(stream):
            x = slow_norm(x, w[part + "attention_norm.weight"], config.norm_eps)
            heads = list((matrix @ x + bias).reshape(-1, size))
            q, k, v = (
                [heads.pop(0) for _ in range(count)]
                for count in (config.heads, config.kv_heads, config.kv_heads)
            )
            rows[0].append([slow_rotate(head, position, frequencies) for head in q])
            rows[1].append([slow_rotate(head, position, frequencies) for head in k])
            rows[2].append(v)
        for position in range(len(stream)):
            joined = []
            for head in range(config.heads):
                shared = head // (config.heads // config.kv_heads)
                query = rows[0][position][head]
                seen = range(position + 1)
                score = [query @ rows[1][at][shared] / math.sqrt(size) for at in seen]
                share = np.exp(np.array(score) - max(score))
                share /= share.sum()
                joined.append(sum(share[at] * rows[2][at][shared] for at in seen))
            out = w[part + "attention.out.weight"] @ np.concatenate(joined)
            stream[position] = stream[position] + out
        gate, up = np.split(w[part + "ffn.gate_up.weight"], 2)
        for position, x in enumerate(stream):
            x = slow_norm(x, w[part + "ffn_norm.weight"], config.norm_eps)
            g = gate @ x
            inner = g / (1 + np.exp(-g)) * (up @ x)
            stream[position] = stream[position] + w[part + "ffn.down.weight"] @ inner
    head = w["embedding.weight" if config.tied_embeddings else "head.weight"]
    return np.array([head @ slow_norm(x, w["norm.weight"], config.norm_eps) for x in stream])


SHAPES = [
    {},
    dict(heads=6, kv_heads=3, head_dim=4, d_model=20, ffn=27, vocab=31),
    dict(heads=1, kv_heads=1, head_dim=2, d_model=1, ffn=1, vocab=2),
    dict(heads=4, kv_heads=1, qkv_bias=True, tied_embeddings=True),
    dict(layers=1, rope_theta=500.0, rope_scaling=RopeScaling(4.0, 1.0, 8.0, 20), head_dim=12),
]


def loud(model):
    """Norms and biases unlike their first values, so that a forgotten one shows."""
    draw = torch.Generator().manual_seed(9)
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.normal_(1.0, 0.3, generator=draw)
    return model


@pytest.mark.parametrize("shape", SHAPES)
def test_the_model_computes_what_plain_loops_do(shape):
    model = loud(tiny.model(**shape))
    draw = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, model.config.vocab, (23,), generator=draw)
    expected = slow_logits(model, tokens.tolist())
    # the tables of the rotary embedding are rounded to float32
    np.testing.assert_allclose(model(tokens).numpy(), expected, rtol=0, atol=2e-5)
    if model.config.d_model > 1:
        assert expected.std() > 0.1


def test_rotary_frequencies():
    for shape in SHAPES:
        config = tiny.config(**shape)
        np.testing.assert_allclose(
            rotary_frequencies(config).numpy(), slow_frequencies(config), rtol=1e-6
        )


@given(seed=st.integers(0, 10**6), time=st.integers(1, 30), cut=st.integers(1, 30))
@settings(max_examples=25)
def test_later_tokens_change_nothing_before_them(seed, time, cut):
    model = tiny.model(seed=1)
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 97, (time,), generator=draw)
    cut = min(cut, time)
    torch.testing.assert_close(model(tokens[:cut]), model(tokens)[:cut], rtol=1e-12, atol=1e-12)


def test_a_batch_is_its_sequences():
    model = tiny.model()
    tokens = torch.randint(0, 97, (3, 17), generator=torch.Generator().manual_seed(0))
    alone = torch.stack([model(row) for row in tokens])
    torch.testing.assert_close(model(tokens), alone, rtol=1e-12, atol=1e-12)


def test_the_caller_chooses_positions_and_attention():
    model = tiny.model()
    tokens, seen = torch.tensor([5, 3, 96]), []

    def attend(layer, q, k, v):
        seen.append((layer, tuple(q.shape), tuple(k.shape), tuple(v.shape)))
        return causal_attention(layer, q, k, v)

    hidden = model.hidden(tokens, torch.arange(3), attend)
    assert seen == [(layer, (3, 4, 8), (3, 2, 8), (3, 2, 8)) for layer in range(2)]
    assert torch.equal(model.logits(hidden), model(tokens))
    # rotary attention looks at distances only: all moved by 50 places, the same result
    moved = model.hidden(tokens, torch.arange(50, 53), attend)
    torch.testing.assert_close(moved, hidden, rtol=0, atol=1e-5)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(model.hidden(tokens, torch.tensor([0, 2, 4])), hidden)


def test_a_sequence_longer_than_the_context_is_refused():
    model = tiny.model(context=8)
    assert model(torch.zeros(8, dtype=torch.int64)).shape == (8, 97)
    with pytest.raises(ValueError, match="tokens has 9 of them in a row; the context holds 8"):
        model(torch.zeros(9, dtype=torch.int64))


def test_dtype_and_tables_follow():
    model = Transformer(tiny.config())
    assert (model.dtype, model.cos.dtype, model.device.type) == (torch.float32,) * 2 + ("cpu",)
    model.bfloat16()
    assert model.dtype == model.signed_sin.dtype == torch.bfloat16
    assert not {"cos", "signed_sin"} & set(model.state_dict())


def test_a_seed_decides_the_first_weights():
    config = tiny.config(qkv_bias=True)
    one, same, other = Transformer(config, 1), Transformer(config, 1), Transformer(config, 2)
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not any(torch.equal(a, c) for a, _, c in pairs if a.dim() == 2)
    assert abs(float(one.layers[0].ffn.gate_up.weight.detach().std()) - 0.02) < 0.002


def test_what_writes_to_the_residual_stream_starts_smaller():
    """Each of 2 L additions has 1 / (2 L) of the variance: their sum has that of one."""
    model = Transformer(tiny.config(layers=8, d_model=64, ffn=64, heads=8))
    for layer in model.layers:
        for linear in (layer.attention.out, layer.ffn.down):
            assert float(linear.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.1)
        for linear in (layer.attention.qkv, layer.ffn.gate_up):
            assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


# ---- counts --------------------------------------------------------------------------------------


def builds(model):
    plain = (model.norm, model.positions, model.mlp) == ("rmsnorm", "rope", "swiglu")
    return plain and model.moe is None and model.mla is None and model.window is None


FAMILY = [model.id for model in catalog.models() if builds(model)]
OTHERS = [model.id for model in catalog.models() if not builds(model)]


def test_the_catalog_has_both_kinds():
    assert {"llama-2-7b", "llama-3.1-405b", "qwen2.5-0.5b", "mistral-7b-v0.3"} <= set(FAMILY)
    assert {"gpt2", "mixtral-8x7b", "deepseek-v3", "mistral-7b-v0.1"} <= set(OTHERS)


@pytest.mark.parametrize("name", FAMILY)
def test_parameters_are_those_of_the_catalog(name):
    """Built without memory, from the catalog's sizes; the context shortened, for its tables."""
    config = ModelConfig.from_catalog(name)
    record = catalog.model(name)
    assert all(getattr(config, field) == getattr(record, field) for field in SIZES)
    with torch.device("meta"):
        model = Transformer(dataclasses.replace(config, context=16))
    assert sum(weight.numel() for weight in model.parameters()) == record.parameters
    layer = model.layers[0]
    sizes = (config.d_model, config.heads, config.kv_heads, config.head_dim)
    in_attention = layer.attention.qkv.weight.numel() + layer.attention.out.weight.numel()
    assert in_attention == model_size.attention_parameters(*sizes)
    in_ffn = sum(weight.numel() for weight in layer.ffn.parameters())
    assert in_ffn == model_size.swiglu_parameters(config.d_model, config.ffn)


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_of_another_family_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"^{name} has .*; this module"):
        ModelConfig.from_catalog(name)


# ---- configurations ------------------------------------------------------------------------------


def test_a_configuration_survives_json():
    for shape in SHAPES:
        config = tiny.config(**shape)
        assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def good(**changes):
    values = tiny.config().to_dict() | changes
    return {name: value for name, value in values.items() if value is not Ellipsis}


def test_fields_that_are_none_at_all_are_refused():
    with pytest.raises(ValueError, match=r"fields are \[\]; they must be given by name"):
        ModelConfig.from_dict([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *((({name: 0}), f"{name} is 0; it must be a whole number, 1 or more") for name in SIZES),
        (dict(layers=2.0), "layers is 2.0; it must be a whole number"),
        (dict(layers=True), "layers is True; it must be a whole number"),
        (dict(vocab="97"), "vocab is '97'; it must be a whole number"),
        (dict(vocab=None), "vocab is None; it must be a whole number"),
        (dict(heads=4, kv_heads=3), r"kv_heads is 3; it must divide heads \(4\)"),
        (dict(heads=2, kv_heads=4), r"kv_heads is 4; it must divide heads \(2\)"),
        (dict(head_dim=7), "head_dim is 7; it must be even"),
        (dict(rope_theta=0), "rope_theta is 0; it must be a positive number"),
        (dict(norm_eps=float("nan")), "norm_eps is nan; it must be a positive number"),
        (dict(norm_eps="tiny"), "norm_eps is 'tiny'; it must be a positive number"),
        (dict(norm_eps=True), "norm_eps is True; it must be a positive number"),
        (dict(rope_theta=10**400), "rope_theta is 10{400}; it must be a positive number"),
        (dict(tied_embeddings="false"), "tied_embeddings is 'false'; it must be True or False"),
        (dict(tied_embeddings=None), "tied_embeddings is None; it must be True or False"),
        (dict(qkv_bias=1), "qkv_bias is 1; it must be True or False"),
        (dict(rope_scaling="llama3"), "rope_scaling is 'llama3'; it must be a RopeScaling or None"),
        (dict(rope_scaling={"x": 1}), r"unknown fields of rope_scaling \['x'\]; known are"),
        (dict(rope_scaling={"factor": 1}), r"missing fields of rope_scaling \['high_freq_factor'"),
        (dict(depth=3), r"unknown fields \['depth'\]; known are \['context', "),
        (dict(vocab=...), r"missing fields \['vocab'\]"),
        (
            dict(rope_scaling=dataclasses.asdict(RopeScaling(1.0, 1.0, 4.0, 8)) | {"factor": -8}),
            "rope_scaling.factor is -8; it must be a positive number",
        ),
        (
            dict(
                rope_scaling=dict(
                    factor=8.0, low_freq_factor=4.0, high_freq_factor=4.0, original_context=8
                )
            ),
            r"high_freq_factor is 4.0; it must be larger than low_freq_factor \(4.0\)",
        ),
    ],
)
def test_a_bad_configuration_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict(good(**changes))
