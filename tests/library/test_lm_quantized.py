"""Weight-only int8 and int4: codes, packing, both ways to multiply, and the ledger of bytes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import tiny  # noqa: E402
from helpers.lm import quantized  # noqa: E402
from helpers.lm.config import ModelConfig  # noqa: E402
from helpers.lm.model import Transformer  # noqa: E402
from helpers.lm.quantized import Int4Linear, Int8Linear, quantize_  # noqa: E402

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def random(*shape, seed=0, dtype=torch.float64, spread=1.0):
    """Normal numbers, rows of very different size."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=draw, dtype=torch.float64)
    rows = torch.rand(shape[0], generator=draw, dtype=torch.float64)
    return (values * 10 ** ((rows - 0.5) * spread)[:, None]).to(dtype)


def linear(outputs, inputs, dtype=torch.float32, bias=False, seed=0):
    made = nn.Linear(inputs, outputs, bias=bias, dtype=dtype)
    made.weight.data = random(outputs, inputs, seed=seed, dtype=dtype)
    return made


# ---- codes and scales ----------------------------------------------------------------------------


@given(
    outputs=st.integers(1, 9),
    groups=st.integers(1, 5),
    group=st.sampled_from([1, 2, 5, 32]),
    bits=st.sampled_from([8, 4]),
    dtype=st.sampled_from(DTYPES),
    spread=st.floats(0, 9),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=80)
def test_no_weight_is_off_by_more_than_half_its_scale(
    outputs, groups, group, bits, dtype, spread, seed
):
    weight = random(outputs, groups * group, seed=seed, dtype=dtype, spread=spread)
    weight[0] = 0
    codes, scale = quantized.quantize(weight, bits, group)
    assert codes.dtype == torch.int8 and scale.dtype == dtype
    assert scale.shape == (outputs, groups)
    assert int(codes.abs().max()) <= 2 ** (bits - 1) - 1
    exact = weight.double().numpy().reshape(outputs, groups, group)
    steps = scale.double().numpy()[:, :, None]
    back = codes.numpy().reshape(outputs, groups, group) * steps
    assert (np.abs(back - exact) <= steps / 2 * (1 + 1e-6)).all()
    # the scale is no larger than it must be: the largest weight of a group uses the whole range
    largest = np.abs(exact).max(-1)
    tiny_scale = torch.finfo(dtype).tiny
    expected = np.maximum(largest / (2 ** (bits - 1) - 1), tiny_scale)
    np.testing.assert_allclose(steps[..., 0], expected, rtol=float(torch.finfo(dtype).eps))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_weight_that_is_no_number_is_refused(bits, value):
    weight = torch.ones(2, 32)
    weight[1, 3] = value
    with pytest.raises(ValueError, match="weight: holds a value that is infinite or not a number"):
        quantized.quantize(weight, bits, 32)


def test_dequantize_undoes_a_weight_that_lies_on_the_grid():
    codes = torch.randint(-7, 8, (5, 96), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    codes[:, ::32] = 7  # so that the scale is found again
    scale = 2.0 ** torch.arange(-7, 8).reshape(5, 3)
    again, found = quantized.quantize(quantized.dequantize(codes, scale), 4, 32)
    assert torch.equal(again, codes) and torch.equal(found, scale)


@given(outputs=st.integers(1, 7), pairs=st.integers(1, 40), seed=st.integers(0, 10**6))
@settings(max_examples=40)
def test_packing_is_undone_and_has_the_low_half_first(outputs, pairs, seed):
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(-8, 8, (outputs, 2 * pairs), generator=draw).to(torch.int8)
    packed = quantized.pack(codes)
    assert packed.dtype == torch.uint8 and packed.shape == (outputs, pairs)
    assert torch.equal(quantized.unpack(packed), codes)
    slow = [[int(r[2 * i]) + 8 + 16 * (int(r[2 * i + 1]) + 8) for i in range(pairs)] for r in codes]
    assert packed.tolist() == slow


def kernel_or_skip(bits):
    """Skip where the machine has no kernel; fail where ours drives it wrongly."""
    reason = quantized.missing_kernel(bits)
    if "has no such kernel" in reason:
        pytest.skip(f"NO KERNEL TO COMPARE: {reason}")
    assert reason == ""


# ---- layers --------------------------------------------------------------------------------------

#: awkward in one way or other: one output, odd outputs, odd numbers of groups
SHAPES = [(1, 32), (7, 96), (48, 32), (33, 160), (64, 96)]
LAYERS = [
    (lambda source: Int8Linear(source)),
    (lambda source: Int4Linear(source, 32)),
]


@pytest.mark.parametrize("make", LAYERS, ids=["int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_multiplies_with_the_weight_it_states(make, shape, bias):
    source = linear(*shape, dtype=torch.float64, bias=bias)
    layer = make(source)
    x = random(6, shape[1], seed=3)
    expected = x.numpy() @ layer.weight.numpy().T
    if bias:
        expected = expected + source.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(layer(x.reshape(2, 3, -1)), layer(x).reshape(2, 3, -1))
    torch.testing.assert_close(layer(x[0]), layer(x)[0], rtol=1e-12, atol=1e-12)


def test_int8_takes_inputs_of_any_width():
    for inputs in (1, 3, 31, 33):
        layer = Int8Linear(linear(5, inputs, dtype=torch.bfloat16))
        x = random(2, inputs, dtype=torch.bfloat16)
        expected = x.double() @ layer.weight.double().t()
        torch.testing.assert_close(layer(x).double(), expected, rtol=2**-6, atol=2**-5)
        assert "whole tiles" in layer.why_plain(x)


def bfloat16_bound(layer, x):
    """How far a product in bfloat16 may lie from the exact one: roundings of x's products and out.

    The weight as it is written out, the output, and the order of the sum, each 2**-8.
    """
    return 3 * 2**-8 * (x.double().abs() @ layer.weight.double().abs().t())


@pytest.mark.parametrize("make", LAYERS, ids=["int8", "int4"])
@pytest.mark.parametrize("rows", [1, 2, 5, 16])
@pytest.mark.parametrize("shape", [(16, 32), (48, 96), (80, 160)])
@pytest.mark.parametrize("bias", [False, True])
def test_the_kernel_computes_what_the_plain_way_does(make, rows, shape, bias):
    layer = make(linear(*shape, dtype=torch.bfloat16, bias=bias))
    kernel_or_skip(layer.bits)
    x = random(rows, shape[1], seed=5, dtype=torch.bfloat16)
    assert layer.why_plain(x) == ""
    fast = layer(x).double()
    exact = x.double() @ layer.weight.double().t()
    if bias:
        exact += layer.bias.double()
    bound = bfloat16_bound(layer, x)
    assert ((fast - exact).abs() <= bound).all()
    assert ((layer.plain(x).double() - exact).abs() <= bound).all()
    assert (bound < exact.abs().max() / 2).all()  # the bound says something
    layer.kernel = False
    assert torch.equal(layer(x), layer.plain(x))
    layer.kernel = True
    batch = x.reshape(1, rows, -1)
    assert torch.equal(layer(batch)[0].double(), fast)
    assert torch.equal(layer(x[0]).double(), layer(x[:1])[0].double())


@pytest.mark.parametrize("make", LAYERS, ids=["int8", "int4"])
def test_a_gradient_passes_through_to_the_input(make):
    layer = make(linear(32, 64, dtype=torch.bfloat16))
    x = random(1, 64, dtype=torch.bfloat16).requires_grad_()
    layer(x).sum().backward()
    expected = layer.weight.double().sum(0)
    torch.testing.assert_close(x.grad[0].double(), expected, rtol=0.05, atol=0.1)


def test_why_a_layer_goes_the_plain_way(monkeypatch):
    layer = Int8Linear(linear(32, 64))
    x = torch.ones(1, 64)
    assert layer.why_plain(x) == "torch's kernel is fast in bfloat16, not in torch.float32"
    assert "cpu, not meta" in layer.why_plain(x.to("meta")).lower()
    assert layer.why_plain(torch.ones(17, 64).bfloat16()).startswith("17 rows share")
    assert "no gradient" in layer.why_plain(x.bfloat16().requires_grad_())
    monkeypatch.setattr(quantized, "missing_kernel", lambda bits: f"no kernel of {bits} bits")
    assert layer.why_plain(x.bfloat16()) == "no kernel of 8 bits"
    assert Int8Linear(linear(32, 64), kernel=False).why_plain(x) == "the kernel is switched off"
    with pytest.raises(ValueError, match="x: has 63 channels; allowed is 64"):
        layer(torch.ones(1, 63))


@pytest.mark.parametrize("bits", [8, 4])
def test_a_kernel_that_fails_or_errs_is_not_used(monkeypatch, bits):
    kind = Int8Linear if bits == 8 else Int4Linear

    def absent(self, x):
        raise NotImplementedError("not on this processor\nmore")

    try:
        monkeypatch.setattr(kind, "fused", absent)
        quantized.missing_kernel.cache_clear()
        says = quantized.missing_kernel(bits)
        assert says.endswith("has no such kernel here (not on this processor)")
        layer = kind(linear(32, 64, dtype=torch.bfloat16))
        x = random(1, 64, dtype=torch.bfloat16)
        assert layer.why_plain(x) == says and torch.equal(layer(x), layer.plain(x))
        monkeypatch.setattr(kind, "fused", lambda self, x: self.plain(x) * 1.1)
        quantized.missing_kernel.cache_clear()
        assert quantized.missing_kernel(bits).endswith("computes something else here")
    finally:
        quantized.missing_kernel.cache_clear()


def test_the_kernels_copy_follows_the_codes():
    """A layer that was moved, converted or loaded anew must not multiply with its old weights."""
    first = Int4Linear(linear(32, 64, dtype=torch.bfloat16, seed=1))
    second = Int4Linear(linear(32, 64, dtype=torch.bfloat16, seed=2))
    x = random(2, 64, dtype=torch.bfloat16)
    kernel_or_skip(4)
    before, expected = first(x), second(x)
    assert not torch.equal(before, expected)
    assert first.copy_bytes == 32 * 64 // 2 + 32 * 2 * 2 * 2  # codes; scale and zero, 2 bytes each
    assert set(first.state_dict()) == {"packed", "scale"}
    first.load_state_dict(second.state_dict())
    assert torch.equal(first(x), expected)
    assert first.double().copy_bytes == 0
    wide = quantized.unpack(second.packed).reshape(32, 2, 32) * second.scale.double()[..., None]
    torch.testing.assert_close(
        first(x.double()), x.double() @ wide.reshape(32, 64).t(), rtol=1e-12, atol=1e-12
    )
    assert torch.equal(first.bfloat16()(x), expected)
    assert torch.equal(copy.deepcopy(second)(x), expected)


# ---- whole models --------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 32), (4, 64), (4, 128)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ledger_is_exact(bits, group, dtype):
    sizes = dict(d_model=128, heads=4, kv_heads=2, head_dim=32, ffn=384, qkv_bias=True)
    model = quantize_(tiny.model(dtype=dtype, **sizes), bits, group)
    scale_bits = torch.finfo(dtype).bits
    held = 0
    for layer in model.layers:
        for part in (layer.attention.qkv, layer.attention.out, layer.ffn.gate_up, layer.ffn.down):
            weights = part.in_features * part.out_features
            scales = part.out_features * (part.in_features // group if group else 1)
            assert part.bytes == weights * bits // 8 + scales * scale_bits // 8
            held += part.bytes
            per_weight = quantized.bits_per_weight(bits, group or part.in_features, scale_bits)
            assert part.bytes * 8 == weights * per_weight
    assert quantized.held_bytes(model) == held
    assert quantized.predicted_bytes(model.config, bits, group, scale_bits) == held


def test_the_ledger_of_a_large_model_without_its_memory():
    config = ModelConfig.from_catalog("llama-3.1-8b")
    with torch.device("meta"):
        model = quantize_(Transformer(config).bfloat16(), bits=4, group=64)
    assert quantized.held_bytes(model) == quantized.predicted_bytes(config, 4, 64)
    # 32 layers of 218,103,808 weights in 4.25 bits
    assert quantized.held_bytes(model) == 32 * 218_103_808 * 4.25 / 8


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_model_is_the_model_with_rounded_weights(bits):
    model = tiny.model(qkv_bias=True, seed=3)
    for layer in model.layers:
        layer.attention.qkv.bias.normal_(generator=torch.Generator().manual_seed(0))
    rounded, tokens = copy.deepcopy(model), torch.tensor([[5, 3, 96, 0, 41]])
    for layer in rounded.layers:
        for part in (layer.attention.qkv, layer.attention.out, layer.ffn.gate_up, layer.ffn.down):
            group = 32 if bits == 4 else part.in_features
            part.weight.copy_(quantized.dequantize(*quantized.quantize(part.weight, bits, group)))
    before = model(tokens)
    assert quantize_(model, bits) is model
    torch.testing.assert_close(model(tokens), rounded(tokens), rtol=1e-11, atol=1e-11)
    error = (model(tokens) - before).abs().max() / before.abs().max()
    assert 0 < error < (0.05 if bits == 8 else 1)
    assert not any(isinstance(part, nn.Linear) for part in model.layers.modules())
    assert isinstance(model.head, nn.Linear)


def test_eight_bits_lose_less_than_four():
    model, tokens = tiny.model(seed=1), torch.arange(40)[None]
    exact = model(tokens)
    errors = [
        float((quantize_(copy.deepcopy(model), bits)(tokens) - exact).square().mean().sqrt())
        for bits in (8, 4)
    ]
    # a step of 4 bits is 127/7 = 18 times one of 8 where both have the same scale group
    assert 4 * errors[0] < errors[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(bits=3), "bits: 3; allowed are 8 and 4"),
        (dict(bits=True), "bits: True; allowed are 8 and 4"),
        (dict(bits="8"), "bits: '8'; allowed are 8 and 4"),
        (dict(bits=8, group=32), "group: 32; with 8 bits allowed is None"),
        (dict(bits=4, group=16), "group: 16; allowed are 32, 64, 128"),
        (dict(bits=4, group=0), "group: 0; allowed are"),
        (dict(bits=4, group="64"), "group: '64'; allowed are"),
        (dict(bits=4, group=64), "group: 64 does not divide the 32 of qkv"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_changes(arguments, message):
    model = tiny.model()
    with pytest.raises(ValueError, match=message):
        quantize_(model, **arguments)
    assert sum(isinstance(part, nn.Linear) for part in model.modules()) == 9  # 4 a layer, the head


def test_a_model_is_quantised_once_and_saved_before(tmp_path):
    from helpers.lm import loading

    model = quantize_(tiny.model(), 8)
    with pytest.raises(TypeError, match="model: qkv is a Int8Linear; allowed is Linear"):
        quantize_(model, 4)
    with pytest.raises(ValueError, match="quantised; save it before"):
        loading.save(model, tmp_path / "model.safetensors")


@pytest.mark.parametrize("bits", [8, 4])
def test_the_engine_serves_a_quantised_model(bits):
    from helpers.serve.engine import Engine
    from helpers.serve.request import SamplingParams

    model = quantize_(tiny.model(), bits)
    prompts = tiny.prompts(seed=4, count=6, longest=20)
    outputs = Engine(model, blocks=64, block_size=4).generate(prompts, SamplingParams(max_tokens=9))
    for prompt, output in zip(prompts, outputs, strict=True):
        sequence = list(prompt)
        for _ in range(9):
            sequence.append(int(model(torch.tensor(sequence))[-1].argmax()))
        assert list(output.tokens) == sequence[len(prompt) :]
