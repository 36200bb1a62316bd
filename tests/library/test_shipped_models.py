"""The three checkpoints that ship: served in any way they say the same, and they are any good."""

from __future__ import annotations

import functools
import random

import numpy as np
import pytest
import torch

from helpers.bench.serving import as_llama
from helpers.lm import baselines, datacard, evaluate, loading, text
from helpers.lm.tokenizer import load as load_tokenizer
from helpers.serve.cache import ContiguousCache
from helpers.serve.engine import Engine
from helpers.serve.request import SamplingParams
from helpers.serve.sampling import probabilities
from helpers.serve.speculative import SpeculativeDecoder

NAMES = loading.SHIPPED


@functools.cache
def model(name, dtype=torch.float64):
    return loading.load(name, dtype)


def random_prompts(seed, count, longest=40):
    """Random tokens, some behind a common beginning: no text, so the choices are no habit."""
    draw = random.Random(seed)
    head = [draw.randrange(4096) for _ in range(18)]
    return [
        head[: draw.choice([0, 0, 18])]
        + [draw.randrange(4096) for _ in range(draw.randint(1, longest - 18))]
        for _ in range(count)
    ]


def alone(one, prompt, params, seed):
    """The plain model, without a cache: a pass over the whole text for each token."""
    generator, ids = torch.Generator().manual_seed(seed), list(prompt)
    with torch.inference_mode():
        for _ in range(params.max_tokens):
            logits = one(torch.tensor(ids))[-1]
            if params.greedy:
                ids.append(int(logits.argmax()))
                continue
            chances = probabilities(logits, params.temperature, params.top_k, params.top_p)
            number = torch.rand(1, generator=generator, dtype=torch.float64).item()
            ids.append(int(np.searchsorted(np.cumsum(chances.numpy()), number, side="right")))
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options",
    [
        {"policy": "static", "max_batch": 3},
        {"chunk": 7, "block_size": 4, "blocks": 14, "max_batch": 6},
        {"block_size": 16, "prefix_caching": False},
    ],
)
def test_any_way_through_the_engine_gives_the_tokens_of_the_plain_model(name, options):
    """Paged, batched, chunked, preempted, forked, in another order: all the same in float64."""
    prompts = random_prompts(seed=NAMES.index(name), count=6)
    params = [
        SamplingParams(8, 0.8 * (i % 2), seed=30 + i, n=1 + i % 2, ignore_end=True)
        for i in range(len(prompts))
    ]
    engine = Engine(model(name), **options)
    order = random.Random(1).sample(range(len(prompts)), len(prompts))
    outputs = engine.generate([prompts[i] for i in order], [params[i] for i in order])
    for place, output in zip(order, outputs, strict=True):
        for branch, sample in enumerate(output.samples or [output]):
            want = alone(model(name), prompts[place], params[place], 30 + place + branch)
            assert sample.tokens == want
    assert bool(engine.log.of("preempt")) == ("blocks" in options)
    assert len(engine.log.of("fork")) >= 3, "samples were forked off their prompt"


@pytest.mark.parametrize("name", ["draft", "stranger"])
@pytest.mark.parametrize("guesses", [1, 4])
def test_speculative_greedy_is_greedy_on_random_prompts(name, guesses):
    decoder = SpeculativeDecoder(model("target"), model(name), guesses)
    params = SamplingParams(max_tokens=12, ignore_end=True)
    for prompt in random_prompts(seed=7, count=3):
        assert decoder.generate(prompt, params).tokens == alone(model("target"), prompt, params, 0)


def test_in_bfloat16_the_cache_changes_scores_by_rounding_only():
    exact, rounded = model("target"), model("target", torch.bfloat16)
    (ids,) = random_prompts(seed=9, count=1)
    with torch.inference_mode():
        whole = rounded(torch.tensor([ids])).double()  # [1, T, V]
        cache = ContiguousCache(rounded.config, 1, len(ids), dtype=torch.bfloat16)
        parts = [rounded.logits(cache.forward(rounded, torch.tensor([[i]]))) for i in ids]
        noise = (whole - exact(torch.tensor([ids]))).abs()
    away = (torch.cat(parts, 1).double() - whole).abs()
    assert away.mean() < 2 * noise.mean() and away.max() < 3 * noise.max()


def test_transformers_says_the_same_with_the_shipped_weights():
    pytest.importorskip("transformers")
    llama, prompts = as_llama(model("target")), random_prompts(seed=11, count=8)
    params = SamplingParams(max_tokens=6, ignore_end=True)
    ours = Engine(model("target")).generate(prompts, params)
    for prompt, output in zip(prompts, ours, strict=True):
        with torch.inference_mode():
            theirs = llama.generate(
                torch.tensor([prompt]), max_new_tokens=6, do_sample=False, pad_token_id=0
            )
        assert output.tokens == theirs[0, len(prompt) :].tolist()


# ---- quality -------------------------------------------------------------------------------------


@functools.cache
def held_out():
    return sorted(text.corpus().held_out, key=lambda document: document.name)


def test_the_target_predicts_better_than_draft_and_compressor():
    """On any Python, whose held-out text differs from the card's."""
    documents = [d for d in held_out() if 4_000 < d.bytes < 14_000][:6]
    coder = load_tokenizer()
    bits = {
        name: evaluate.bits_per_byte(model(name, torch.float32), documents, coder) for name in NAMES
    }
    xz = baselines.xz_per_document(documents)
    assert bits["target"] < bits["draft"] < bits["stranger"]
    assert bits["target"] < 0.8 * xz, (bits, xz)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_card_states_the_loss_that_its_checkpoint_has(name):
    if datacard.compare(datacard.load(), text.corpus()):
        pytest.skip("another Python: its text is not the card's")
    stated = loading.card(name)["held_out_bits_per_byte"]["corpus"]
    measured = evaluate.bits_per_byte(model(name, torch.float32), held_out(), load_tokenizer())
    assert measured == pytest.approx(stated, abs=0.001)


def test_the_target_beats_every_baseline_of_the_data_card():
    card = loading.card("target")
    assert card["held_out_bits_per_byte"]["corpus"] < min(
        datacard.load()["baselines_bits_per_byte"].values()
    )
