"""Checkpoints, ours and published ones; and the model against transformers with the same weights.

All that imports transformers (seconds) is gathered here, so that one worker pays for it once.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import tiny  # noqa: E402
from helpers import catalog  # noqa: E402
from helpers.formulas.kv_estimate import CacheEstimate, CacheLayout, LayerCache  # noqa: E402
from helpers.lm import loading  # noqa: E402
from helpers.lm.checkpoint import DTYPES, weight_shapes  # noqa: E402
from helpers.lm.config import ModelConfig, RopeScaling  # noqa: E402
from helpers.lm.model import Transformer  # noqa: E402
from helpers.lm.published import published_parts  # noqa: E402
from helpers.lm.published_config import DEFAULT_WINDOW, read_config  # noqa: E402

# ---- the book's own checkpoints ------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    return loading.save(tiny.model(), tmp_path / "one.safetensors")


def test_a_save_that_fails_half_way_leaves_the_old_file(monkeypatch, checkpoint):
    before, whole = checkpoint.read_bytes(), Path.write_bytes

    def half(path, data):
        whole(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match=r"one.safetensors: cannot be written: .*No space left"):
        loading.save(tiny.model(seed=1), checkpoint)
    monkeypatch.undo()
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["one.safetensors"]


def test_what_safetensors_cannot_do_is_an_oserror_too(monkeypatch, checkpoint):
    import safetensors.torch

    def fails(*arguments, **options):
        raise safetensors.SafetensorError("no luck")

    monkeypatch.setattr(safetensors.torch, "save", fails)
    with pytest.raises(OSError, match=r"one.safetensors: cannot be written: no luck"):
        loading.save(tiny.model(), checkpoint)


def test_a_save_into_no_folder_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="path: there is no folder"):
        loading.save(tiny.model(), tmp_path / "none" / "a.safetensors")
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(OSError, match=r"a.safetensors: cannot be written"):
        loading.save(tiny.model(), tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.skipif(os.name != "posix", reason="rights as on POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_checkpoint_has_the_rights_of_any_other_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        path = loading.save(tiny.model(), tmp_path / "one.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def stretched(**changes):
    """A model that uses every field of the configuration."""
    scaling = RopeScaling(8.0, 1.0, 4.0, 32)
    return tiny.model(
        qkv_bias=True, tied_embeddings=True, rope_theta=5e5, rope_scaling=scaling, norm_eps=1e-6
    )


@pytest.mark.parametrize("make", [tiny.model, stretched])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_saved_model_comes_back_rounded_to_bfloat16(tmp_path, make, dtype):
    model = make()
    path = loading.save(model, tmp_path / "one.safetensors", card={"steps": 3})
    back = loading.load(path, dtype=dtype)
    assert back.config == model.config and back.dtype == dtype and not back.training
    tokens = torch.tensor([[3, 1, 96, 0]])
    rounded = Transformer(model.config).double()
    rounded.load_state_dict(
        {name: value.bfloat16().double() for name, value in model.state_dict().items()}
    )
    rounded.to(dtype)
    assert torch.equal(back(tokens), rounded(tokens))
    assert (back.head.weight is back.embedding.weight) == model.config.tied_embeddings
    assert json.loads((tmp_path / "one.json").read_text()) == {"steps": 3}
    assert not list(tmp_path.glob("*.part"))
    parameters = sum(value.numel() for value in model.parameters())
    assert 0 <= path.stat().st_size - 2 * parameters < 8192  # the header; a tied head once


def test_a_second_saving_changes_no_byte(tmp_path, checkpoint):
    again = loading.save(loading.load(checkpoint), tmp_path / "two.safetensors")
    assert again.read_bytes() == checkpoint.read_bytes()


def test_a_loaded_model_does_not_lean_on_its_file(checkpoint):
    model = loading.load(checkpoint, dtype=torch.bfloat16)
    tokens, before = torch.tensor([5, 6, 7]), checkpoint.read_bytes()
    expected = model(tokens)
    for weight in model.parameters():
        weight.add_(0)
    checkpoint.write_bytes(b"\xff" * len(before))
    assert torch.equal(model(tokens), expected)


@pytest.mark.parametrize("name", loading.SHIPPED)
def test_the_shipped_checkpoints(name):
    model = loading.load(name)
    logits = model(torch.arange(8))
    assert logits.shape == (8, model.config.vocab) and bool(logits.isfinite().all())


def test_a_card_is_read_by_name_only():
    assert [loading.card(name)["name"] for name in loading.SHIPPED] == list(loading.SHIPPED)
    with pytest.raises(ValueError, match=r"name: '../x' has no card; allowed are target, draft"):
        loading.card("../x")


def test_a_shipped_checkpoint_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "ASSETS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"draft.safetensors: there is no such file"):
        loading.load("draft")


def rewritten(path, header_changes=None, keep=None, extra=b""):
    """The same file with another header or length, put together by hand."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if header_changes:
        header_changes(header)
    text = json.dumps(header).encode()
    body = struct.pack("<Q", len(text)) + text + data[8 + length :] + extra
    path.write_bytes(body[:keep] if keep is not None else body)
    return path


def config_changes(**changes):
    def change(header):
        values = json.loads(header["__metadata__"]["config"]) | changes
        header["__metadata__"]["config"] = json.dumps(values)

    return change


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(keep=0), "cut short, or not a safetensors file"),
        (dict(keep=5), "cut short, or not a safetensors file"),
        (dict(keep=300), "cut short, or not a safetensors file"),
        (dict(keep=-2), "cut short, or not a safetensors file"),
        (dict(extra=b"12"), "cut short, or not a safetensors file"),
        (dict(header_changes=lambda h: h.pop("__metadata__")), "not a checkpoint of this book"),
        (
            dict(header_changes=lambda h: h["__metadata__"].update(config="{")),
            "'config' in its header cannot be used",
        ),
        (
            dict(header_changes=lambda h: h["__metadata__"].update(config="[]")),
            "'config' in its header cannot be used",
        ),
        (
            dict(header_changes=lambda h: h["__metadata__"].update(config="[" * 100_000)),
            "'config' in its header cannot be used: maximum recursion",
        ),
        (dict(header_changes=config_changes(heads=3)), "kv_heads is 2; it must divide"),
        (dict(header_changes=config_changes(norm_eps=True)), "norm_eps is True; it must be a pos"),
        (dict(header_changes=config_changes(rope_theta=10**400)), "it must be a positive number"),
        (dict(header_changes=config_changes(rope_scaling=[1])), r"rope_scaling is \[1\]; it must"),
        (
            dict(header_changes=config_changes(rope_scaling={"factor": 2.0})),
            r"missing fields of rope_scaling \['high_freq_factor', ",
        ),
        (
            dict(header_changes=config_changes(context=10**12)),
            "context is 1000000000000; with head_dim 8 the rotary tables would be larger than 4 Gi",
        ),
        (
            dict(header_changes=config_changes(layers=300_000)),
            "its 15 tensors are too few for 300000 layers",
        ),
        (
            dict(header_changes=config_changes(d_model=10**30)),
            r"another shape for embedding.weight \[97, 32\] \(allowed is \[97, 10{30}\]\)",
        ),
        (dict(header_changes=config_changes(depth=3)), "unknown fields \\['depth'\\]"),
        (dict(header_changes=config_changes(layers=3)), "lacks layers.2.*and 3 more$"),
        (dict(header_changes=config_changes(layers=1)), "has no use for layers.1"),
        (
            dict(header_changes=config_changes(vocab=98)),
            r"another shape for embedding.weight \[97, 32\] \(allowed is \[98, 32\]\)",
        ),
        (
            dict(header_changes=lambda h: h["norm.weight"].update(dtype="I16")),
            "norm.weight is stored as I16; allowed are F64, F32, F16, BF16",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(checkpoint, how, message):
    started = time.perf_counter()
    with pytest.raises(ValueError, match=message) as error:
        loading.load(rewritten(checkpoint, **how))
    assert str(checkpoint) in str(error.value)
    assert time.perf_counter() - started < 5  # nothing of the stated size was built


@pytest.mark.parametrize("make", [tiny.model, lambda: tiny.model(tied_embeddings=True, layers=3)])
@pytest.mark.parametrize("qkv_bias", [False, True])
def test_shapes_by_arithmetic_are_those_of_the_module(make, qkv_bias):
    config = replace(make().config, qkv_bias=qkv_bias, head_dim=10, ffn=33, vocab=41)
    found = {name: list(value.shape) for name, value in Transformer(config).named_parameters()}
    assert weight_shapes(config) == found


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint 'tarrget'; allowed are target, draft, str"):
        loading.load("tarrget")
    with pytest.raises(ValueError, match="load_pretrained reads folders"):
        loading.load(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"none.safetensors: there is no such file"):
        loading.load(str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match=r"does not end in .safetensors"):
        loading.load(tmp_path / "weights.bin")
    with pytest.raises(TypeError, match="path: 3 is a int; allowed are str and Path"):
        loading.load(3)
    with pytest.raises(ValueError, match=r"dtype: torch.int8; allowed are torch.float32"):
        loading.load("target", dtype=torch.int8)
    with pytest.raises(ValueError, match=r"does not end in .safetensors"):
        loading.save(tiny.model(), tmp_path / "model.pt")


# ---- published checkpoints -----------------------------------------------------------------------

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}
#: name -> (class of transformers, sizes that no tile divides)
MODELS = {
    "llama": ("Llama", dict(num_key_value_heads=2, rms_norm_eps=1e-5)),
    "llama-without-groups": ("Llama", dict(num_key_value_heads=6, hidden_size=48)),
    "llama-3.1": ("Llama", dict(num_key_value_heads=3, head_dim=10, rope_parameters=LLAMA3)),
    "smollm": (
        "Llama",
        dict(
            num_key_value_heads=2,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        ),
    ),
    "mistral": ("Mistral", dict(num_key_value_heads=2, head_dim=6, sliding_window=None)),
    "qwen2": ("Qwen2", dict(num_key_value_heads=2)),
    "qwen2-tied": ("Qwen2", dict(num_key_value_heads=1, tie_word_embeddings=True)),
}


def quiet():
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """name -> (folder with several shards, the model of transformers)."""
    transformers = pytest.importorskip("transformers")
    quiet()
    made = {}
    for seed, (name, (family, changes)) in enumerate(MODELS.items()):
        sizes = dict(
            hidden_size=36,
            intermediate_size=50,
            num_hidden_layers=3,
            num_attention_heads=6,
            vocab_size=101,
            max_position_embeddings=70,
        )
        config = getattr(transformers, f"{family}Config")(**{**sizes, **changes})
        config.pad_token_id = config.bos_token_id = config.eos_token_id = None
        model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
        draw = torch.Generator().manual_seed(seed)
        for weight in model.parameters():
            # norms and biases too: a loader that forgot one must not pass
            weight.data = torch.empty_like(weight).normal_(0.0, 0.3, generator=draw)
        folder = tmp_path_factory.mktemp("published") / name
        model.save_pretrained(folder, max_shard_size="15KB")
        made[name] = folder, model
    return made


def tokens(seed=0, batch=3, time=70, vocab=101):
    return torch.randint(0, vocab, (batch, time), generator=torch.Generator().manual_seed(seed))


def in_double(model):
    """The same model of transformers, its norms too: they would round to float32 inside."""
    import copy

    model = copy.deepcopy(model).double()
    for part in model.modules():
        if type(part).__name__.endswith("RMSNorm"):
            part.forward = lambda x, norm=part: (
                norm.weight * x / (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
            )
    return model


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_those_of_transformers(published, name):
    folder, theirs = published[name]
    assert len(list(folder.glob("*.safetensors"))) > 2
    ours = loading.load_pretrained(folder)
    with torch.no_grad():
        difference = (ours(tokens()) - theirs(tokens()).logits).abs().max()
        assert difference < 1e-4
        precise = loading.load_pretrained(folder, dtype=torch.float64)
        reference = in_double(theirs)(tokens()).logits
        assert (precise(tokens()) - reference).abs().max() < 1e-10
    assert reference.std() > 0.1  # the comparison has something to compare


def test_one_file_without_an_index_reads_the_same(published, tmp_path):
    folder, theirs = published["qwen2"]
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors.index.json").exists()
    one, many = loading.load_pretrained(str(tmp_path)), loading.load_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), many.parameters(), strict=True))


def test_weights_put_in_by_hand_give_the_logits_of_transformers(published):
    """Without the loader: what the model computes, not how it is read."""
    _, theirs = published["llama-3.1"]
    config = ModelConfig(
        **dict(layers=3, d_model=36, heads=6, kv_heads=3, head_dim=10, ffn=50, vocab=101),
        context=70,
        rope_theta=5e5,
        norm_eps=1e-6,
        tied_embeddings=False,
        rope_scaling=RopeScaling(8.0, 1.0, 4.0, 24),
    )
    ours, source = Transformer(config), theirs.model
    with torch.no_grad():
        ours.embedding.weight.copy_(source.embed_tokens.weight)
        ours.norm.weight.copy_(source.norm.weight)
        ours.head.weight.copy_(theirs.lm_head.weight)
        for a, b in zip(ours.layers, source.layers, strict=True):
            a.attention_norm.weight.copy_(b.input_layernorm.weight)
            a.ffn_norm.weight.copy_(b.post_attention_layernorm.weight)
            a.attention.qkv.weight[:60].copy_(b.self_attn.q_proj.weight)
            a.attention.qkv.weight[60:90].copy_(b.self_attn.k_proj.weight)
            a.attention.qkv.weight[90:].copy_(b.self_attn.v_proj.weight)
            a.attention.out.weight.copy_(b.self_attn.o_proj.weight)
            a.ffn.gate_up.weight[:50].copy_(b.mlp.gate_proj.weight)
            a.ffn.gate_up.weight[50:].copy_(b.mlp.up_proj.weight)
            a.ffn.down.weight.copy_(b.mlp.down_proj.weight)
        expected = in_double(theirs)(tokens(1)).logits
        assert (ours.double()(tokens(1)) - expected).abs().max() < 1e-10


def generated(theirs, prompt, count):
    """The tokens that transformers adds greedily."""
    out = theirs.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=count,
        do_sample=False,
    )
    return out[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def fifty(published):
    """50 prompts with what transformers' generate, in float64, says next; and our model."""
    folder, theirs = published["llama-3.1"]
    theirs = in_double(theirs)
    prompts = tiny.prompts(seed=7, count=50, longest=40, vocab=101)
    answers = [generated(theirs, prompt, 12) for prompt in prompts]
    assert len({tuple(answer) for answer in answers}) > 25  # they do not all say the same
    return loading.load_pretrained(folder, dtype=torch.float64), prompts, answers


def test_the_same_greedy_tokens_as_transformers_on_50_prompts(fifty):
    model, prompts, answers = fifty
    for prompt, answer in zip(prompts, answers, strict=True):
        sequence = list(prompt)
        for _ in answer:
            sequence.append(int(model(torch.tensor(sequence))[-1].argmax()))
        assert sequence[len(prompt) :] == answer


@pytest.mark.parametrize("policy", ["continuous", "static"])
def test_the_engine_says_the_same_greedy_tokens_as_transformers(fifty, policy):
    from helpers.serve.engine import Engine
    from helpers.serve.request import SamplingParams

    model, prompts, answers = fifty
    engine = Engine(model, blocks=40, block_size=4, policy=policy, max_batch=7)
    outputs = engine.generate(prompts, SamplingParams(max_tokens=12))
    assert [list(output.tokens) for output in outputs] == answers
    assert {output.finish for output in outputs} == {"length"}


# ---- configurations ------------------------------------------------------------------------------

PLAIN = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 97,
    "max_position_embeddings": 128,
}
STRETCH = {key: value for key, value in LLAMA3.items() if key != "rope_theta"}


def config_file(tmp_path, **changes):
    values = {**PLAIN, **changes}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not Ellipsis}))
    return path


def test_a_sparse_old_file_gets_the_defaults_of_its_time(tmp_path):
    config = read_config(config_file(tmp_path))
    assert (config.kv_heads, config.head_dim, config.rope_theta) == (4, 8, 10_000.0)
    assert (config.norm_eps, config.tied_embeddings, config.qkv_bias) == (1e-6, False, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": 5e5, "rope_scaling": STRETCH},
        {"rope_theta": 5e5, "rope_scaling": {**STRETCH, "type": "llama3", "rope_type": ...}},
        {"rope_parameters": LLAMA3},
        {"rope_theta": 5e5, "rope_parameters": STRETCH},
        {"rope_theta": 5e5, "rope_scaling": STRETCH, "rope_parameters": LLAMA3},
        {"rope_scaling": LLAMA3},
    ],
)
def test_both_styles_of_rotary_fields_mean_the_same(tmp_path, changes):
    changes = {
        key: {k: v for k, v in value.items() if v is not ...} if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    config = read_config(config_file(tmp_path, **changes))
    assert config.rope_theta == 5e5
    assert config.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 24)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": None, "attention_bias": False, "mlp_bias": False, "hidden_act": "silu"},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}},
        {"model_type": "mistral", "num_key_value_heads": 4, "sliding_window": 128},
        {"model_type": "mistral", "num_key_value_heads": 4, "sliding_window": None},
        {"model_type": "mistral", "num_key_value_heads": 4},  # 4,096, longer than the context
        {"sliding_window": 16},  # llama has no such field and does not look
        {"tie_word_embeddings": None, "rope_scaling": {}},
    ],
)
def test_what_changes_nothing_is_accepted(tmp_path, changes):
    assert read_config(config_file(tmp_path, **changes)) == read_config(config_file(tmp_path))


#: what the makers published, in their words
PUBLISHED = {
    "llama-3.1-8b": {
        "model_type": "llama",
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "vocab_size": 128256,
    },
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "max_position_embeddings": 32768,
        "max_window_layers": 24,
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
}
SMOLLM_135M = {
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 2048,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_agree_with_the_catalog(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]))
    config = read_config(tmp_path / "config.json").to_dict()
    expected = ModelConfig.from_catalog(name).to_dict()
    apart = {"rope_theta", "rope_scaling", "norm_eps"}  # the catalog has none of these
    assert {k: v for k, v in config.items() if k not in apart} == {
        k: v for k, v in expected.items() if k not in apart
    }
    assert config["rope_theta"] == PUBLISHED[name]["rope_theta"]


def test_smollm_has_the_parameters_it_says(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM_135M))
    parts = published_parts(read_config(tmp_path / "config.json"))
    shapes = [shape for piece in parts.values() for shape in piece.values()]
    assert sum(torch.Size(shape).numel() for shape in shapes) == 134_515_008


QWEN = {"model_type": "qwen2", "num_key_value_heads": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"sliding_window": 64},  # not switched on
        {"sliding_window": 64, "use_sliding_window": False},
        {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 2},
        {"sliding_window": 64, "use_sliding_window": True, "layer_types": ["full_attention"] * 2},
        {"sliding_window": None, "use_sliding_window": True, "max_window_layers": 0},
        {"use_sliding_window": True, "max_position_embeddings": 8192},  # from layer 28 on
        {"use_sliding_window": True, "max_window_layers": 0},  # 4,096, longer than the context
    ],
)
def test_a_window_that_no_layer_uses_is_accepted(tmp_path, changes):
    assert read_config(config_file(tmp_path, **QWEN, **changes)).qkv_bias


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; allowed are llama, mistral, qwen2"),
        ({"model_type": ...}, "model_type is None; allowed are"),
        ({"model_type": ["llama"]}, r"model_type is \['llama'\]; allowed are"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; it must be a whole number, 1 or m"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1; it must be a whole number, 1 or m"),
        ({"head_dim": 0}, "head_dim is 0; it must be a whole number, 1 or more"),
        ({"tie_word_embeddings": "false"}, 'tie_word_embeddings is "false"; it must be true or f'),
        ({"rope_theta": 10**400}, "rope_theta is 10{400}; it must be a positive number"),
        ({"rope_theta": [1]}, r"rope_theta is \[1\]; it must be a positive number"),
        ({"hidden_act": "gelu"}, 'hidden_act is "gelu"; allowed is "silu" or "swish"'),
        ({"attention_bias": True}, "attention_bias is true; allowed is false"),
        ({"mlp_bias": True}, "mlp_bias is true; allowed is false"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; allowed is 1"),
        ({"quantization_config": {"bits": 4}}, 'quantization_config is {"bits": 4}; allowed is'),
        ({"vocab_size": ...}, "lacks vocab_size"),
        ({"hidden_size": "32"}, 'hidden_size is "32"; it must be a whole number'),
        ({"num_attention_heads": 5}, "num_attention_heads is 5; without head_dim it must divide"),
        ({"num_key_value_heads": 3}, "kv_heads is 3; it must divide heads"),
        ({"rms_norm_eps": -1}, "norm_eps is -1; it must be a positive"),
        ({"model_type": "qwen2"}, "lacks num_key_value_heads"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, '"linear".*allowed are rope_type'),
        ({"rope_scaling": {"factor": 2.0}}, "allowed are rope_type 'default' and 'llama3'"),
        ({"rope_scaling": "llama3"}, "rope_scaling is 'llama3'; it must be an object or null"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling lacks factor, low_freq_factor"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
            "rope_parameters is .*yarn.*allowed are",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "the same for all layers",
        ),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}},
            "rope_parameters.partial_rotary_factor is 0.25; allowed is 1",
        ),
        (
            {"rope_scaling": STRETCH, "rope_parameters": {**LLAMA3, "factor": 4.0}},
            "rope_scaling is .* and rope_parameters .*; they must say the same",
        ),
        (
            {"rope_scaling": STRETCH, "rope_parameters": {"rope_type": "default"}},
            "they must say the same",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": LLAMA3},
            'rope_scaling is .*"linear".*allowed are',
        ),
        (
            {"rope_theta": 1e4, "rope_parameters": LLAMA3},
            "rope_theta is 10000.0 and inside rope_parameters 500000.0; they must say the same",
        ),
        (
            {"model_type": "mistral", "num_key_value_heads": 2, "max_position_embeddings": 4097},
            r"sliding_window is 4096 \(not stated: the default\); allowed is null",
        ),
        (
            {
                **QWEN,
                "use_sliding_window": True,
                "max_position_embeddings": 4097,
                "max_window_layers": 1,
            },
            r"sliding_window is 4096 \(not stated: the default\)",
        ),
        ({**QWEN, "use_sliding_window": "false"}, 'use_sliding_window is "false"; it must be true'),
        (
            {
                **QWEN,
                "use_sliding_window": True,
                "sliding_window": 64,
                "max_window_layers": None,
            },
            "max_window_layers is null",
        ),
        (
            {
                **QWEN,
                "use_sliding_window": True,
                "sliding_window": 64,
                "layer_types": "full_attention",
            },
            "sliding_window is 64",
        ),
        (
            {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 64},
            "sliding_window is 64; allowed is null, or one not shorter than .*128",
        ),
        (
            {**QWEN, "sliding_window": 64, "use_sliding_window": True, "max_window_layers": 1},
            "sliding_window is 64",
        ),
        (
            {
                **QWEN,
                "sliding_window": 64,
                "use_sliding_window": True,
                "layer_types": ["full_attention", "sliding_attention"],
            },
            "sliding_window is 64",
        ),
    ],
)
def test_what_the_module_does_not_do_is_refused(tmp_path, changes, message):
    path = config_file(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        read_config(path)
    assert str(path) in str(error.value)


def test_the_window_that_a_file_need_not_state_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    assert transformers.MistralConfig().sliding_window == DEFAULT_WINDOW
    assert transformers.Qwen2Config(use_sliding_window=True).sliding_window == DEFAULT_WINDOW


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff", "[" * 100_000])
def test_a_configuration_that_is_no_json_object(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"config.json: (not JSON|holds a list)"):
        loading.load_pretrained(tmp_path)


# ---- folders -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A published folder made without transformers: one file, tied, two layers."""
    return folder_of(tmp_path, num_key_value_heads=2, tie_word_embeddings=True)


def folder_of(tmp_path, change=None, **config):
    from safetensors.torch import save_file

    path = config_file(tmp_path, **config)
    parts = published_parts(read_config(path))
    tensors = {n: torch.ones(shape) for piece in parts.values() for n, shape in piece.items()}
    if change:
        change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def test_a_copied_head_and_old_rotary_frequencies_do_no_harm(tmp_path):
    def change(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    model = loading.load_pretrained(folder_of(tmp_path, change, tie_word_embeddings=True))
    assert model.head.weight is model.embedding.weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), "lacks model.norm.weight"),
        (lambda t: t.update(extra=torch.ones(1)), r"has no use for extra \[1\]"),
        (
            lambda t: t.update({"model.layers.1.self_attn.q_proj.bias": torch.ones(32)}),
            "has no use for model.layers.1.self_attn.q_proj.bias",
        ),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(31)}),
            r"another shape for model.norm.weight \[31\] \(allowed is \[32\]\)",
        ),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}),
            "model.norm.weight is stored as I8; allowed are F64, F32, F16, BF16",
        ),
        (
            lambda t: t.update({"lm_head.weight": torch.zeros(97, 32)}),
            "lm_head.weight is not a copy",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        loading.load_pretrained(folder_of(tmp_path, change, tie_word_embeddings=True))
    assert str(tmp_path) in str(error.value)


def test_folders_that_lack_something(folder):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*; download"):
        loading.load_pretrained("someone/some-model")
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=r"model.safetensors: cut short"):
        loading.load_pretrained(folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model.bin is in a form that"):
        loading.load_pretrained(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    with pytest.raises(FileNotFoundError, match=r"one.safetensors: there is no such file"):
        loading.load_pretrained(folder)
    index.write_text(json.dumps({"weight_map": {"a": "../one.safetensors"}}))
    with pytest.raises(ValueError, match=r"'../one.safetensors' is not the name of a file"):
        loading.load_pretrained(folder)
    index.write_text(json.dumps({"weight_map": {"a": ["one.safetensors"]}}))
    with pytest.raises(ValueError, match=r"'one.safetensors'. is not the name of a file"):
        loading.load_pretrained(folder)
    index.write_text("{}")
    with pytest.raises(ValueError, match="weight_map is missing or empty"):
        loading.load_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config.json: there is no such file"):
        loading.load_pretrained(folder)


def test_more_layers_than_tensors_are_refused_at_once(folder):
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 10**9}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="20 tensors are too few for 1000000000 layers"):
        loading.load_pretrained(folder)


def test_a_tensor_in_two_shards_is_refused(folder):
    for name in ("a.safetensors", "b.safetensors"):
        (folder / name).write_bytes((folder / "model.safetensors").read_bytes())
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"b.safetensors: .* is in another shard too"):
        loading.load_pretrained(folder)


def test_published_parts_count_the_catalogs_parameters():
    """The names and shapes asked of a real folder add up to the model's parameters."""
    for name in ("llama-3.1-8b", "qwen2.5-0.5b", "mistral-7b-v0.3"):
        parts = published_parts(ModelConfig.from_catalog(name))
        shapes = [shape for piece in parts.values() for shape in piece.values()]
        assert sum(torch.Size(s).numel() for s in shapes) == catalog.model(name).parameters


# ---- what transformers keeps ---------------------------------------------------------------------

#: name -> (class, its sizes, the same layer by hand: in versions that keep it in two ways, both)
CACHES = {
    "heads apart from the width": (
        "Llama",
        dict(num_key_value_heads=2, head_dim=24),
        [dict(kv_heads=2, head_dim=24)],
    ),
    "a key and value for each head": (
        "Llama",
        dict(num_key_value_heads=4),
        [dict(kv_heads=4, head_dim=16)],
    ),
    "a window": (
        "Mistral",
        dict(num_key_value_heads=2, sliding_window=9),
        # it keeps what the next token will see: the window without that token
        [dict(kv_heads=2, head_dim=16, window=8)],
    ),
    "latent attention": (
        "DeepseekV3",
        dict(
            num_key_value_heads=4,
            kv_lora_rank=12,
            q_lora_rank=16,
            qk_rope_head_dim=6,
            qk_nope_head_dim=10,
            v_head_dim=14,
            first_k_dense_replace=3,
        ),
        # older ones keep keys and values of every head
        [dict(kv_rank=12, rope_dim=6), dict(kv_heads=4, head_dim=16, value_head_dim=14)],
    ),
}


@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("length", [5, 20])
def test_transformers_keeps_what_the_estimator_says(name, length):
    transformers = pytest.importorskip("transformers")
    quiet()
    family, changes, layers = CACHES[name]
    config = getattr(transformers, f"{family}Config")(
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        vocab_size=31,
        max_position_embeddings=64,
        **changes,
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        cache = model(tokens(batch=2, time=length, vocab=31), use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    layouts = [CacheLayout("tiny", 3 * (LayerCache(4, **layer),)) for layer in layers]
    assert kept in [CacheEstimate(layout, "fp32").batch_bytes([length] * 2) for layout in layouts]
