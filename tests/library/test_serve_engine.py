"""The engine gives the tokens that the plain model gives, whatever happens on the way."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from helpers.bench.serving import as_llama
from helpers.lm import loading
from helpers.lm.tokenizer import load as load_tokenizer
from helpers.serve import engine as engine_module
from helpers.serve.engine import Engine
from helpers.serve.events import State, read, replay
from helpers.serve.metrics import tokens_per_s
from helpers.serve.request import Piece, SamplingParams, Status
from helpers.serve.sampling import probabilities


@functools.cache
def model(**changes):
    return tiny.model(**changes)


@functools.cache
def greedy(prompt: tuple[int, ...], count: int) -> list[int]:
    """The plain model, a pass over the whole text for each token."""
    text = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            text.append(int(model()(torch.tensor(text))[-1].argmax()))
    return text[len(prompt) :]


@functools.cache
def sampled(prompt: tuple[int, ...], params: SamplingParams, seed: int) -> list[int]:
    """The same with chance: one uniform number per token, looked up in the cumulated chances."""
    generator = torch.Generator().manual_seed(seed)
    text = list(prompt)
    with torch.no_grad():
        for _ in range(params.max_tokens):
            logits = model()(torch.tensor(text))[-1]
            chances = probabilities(logits, params.temperature, params.top_k, params.top_p)
            number = torch.rand(1, generator=generator, dtype=torch.float64).item()
            text.append(int(np.searchsorted(np.cumsum(chances.numpy()), number, side="right")))
    return text[len(prompt) :]


def assert_nothing_held(engine):
    assert engine.blocks.free_blocks == engine.cache.blocks
    assert not engine.scheduler.running and not engine.scheduler.waiting


def tokens_of(outputs):
    assert all(output.finish == "length" and output.error is None for output in outputs)
    return [output.tokens for output in outputs]


# ---- the same tokens -------------------------------------------------------------------------

#: prompts of a few lengths, some with a common beginning
PROMPTS = [
    *tiny.prompts(seed=1, count=5, longest=20),
    *([*range(40, 58), *tail] for tail in ([], [7], [7, 8, 9], [60] * 5)),
]


@settings(max_examples=60)
@given(
    asked=st.lists(
        st.tuples(
            st.integers(0, len(PROMPTS) - 1),  # prompt
            st.integers(1, 14),  # tokens
            st.integers(0, 8),  # steps before it arrives
            st.sampled_from([0.0, 0.0, 1.0]),  # temperature
            st.sampled_from([1, 1, 1, 2]),  # samples
        ),
        min_size=1,
        max_size=6,
    ),
    policy=st.sampled_from(["continuous"] * 3 + ["static", "shrinking"]),
    max_batch=st.integers(2, 6),
    chunk=st.none() | st.integers(1, 24),
    block_size=st.sampled_from([1, 3, 4, 16]),
    tight=st.booleans(),
    prefix_caching=st.booleans(),
)
def test_any_way_through_the_engine_gives_the_same_tokens(
    asked, policy, chunk, block_size, tight, **options
):
    """Batched, chunked, preempted, shared, in any order: as each request alone, without a cache."""
    longest = max(len(PROMPTS[which]) + count - 1 for which, count, *_ in asked)
    blocks = -(-longest // block_size) + 1 if tight else 160
    options["chunk"] = chunk if policy == "continuous" else None
    engine = Engine(model(), blocks=blocks, block_size=block_size, policy=policy, **options)
    requests = {}
    for step in itertools.count():
        for place, (which, count, arrival, temperature, n) in enumerate(asked):
            if arrival == step:
                params = SamplingParams(count, temperature, seed=which, n=n)
                requests[place] = engine.add(PROMPTS[which], params)
        engine.step()
        if len(requests) == len(asked) and not engine.scheduler.unfinished:
            break
    for place, (which, count, _, temperature, _) in enumerate(asked):
        request = requests[place]
        for index, one in enumerate(request.samples or [request]):
            if temperature:
                params = SamplingParams(14, temperature)
                want = sampled(tuple(PROMPTS[which]), params, which + index)
            else:
                want = greedy(tuple(PROMPTS[which]), 14)
            assert one.tokens == want[:count]
    assert_nothing_held(engine)


def want_of(prompts, count):
    return [greedy(tuple(prompt), count) for prompt in prompts]


def test_batched_is_alone():
    prompts = tiny.prompts(seed=3, count=8, longest=30)
    params = SamplingParams(max_tokens=12)
    together = tokens_of(Engine(model(), max_batch=8).generate(prompts, params))
    alone = [tokens_of(Engine(model()).generate([prompt], params))[0] for prompt in prompts]
    assert together == alone == want_of(prompts, 12)


def test_transformers_generates_the_same():
    """Another implementation of the same family, with its own cache, on 50 prompts."""
    pytest.importorskip("transformers")
    llama = as_llama(model())
    prompts = tiny.prompts(seed=9, count=50, longest=30)
    ours = tokens_of(Engine(model()).generate(prompts, SamplingParams(max_tokens=8)))
    for prompt, tokens in zip(prompts, ours, strict=True):
        inputs = torch.tensor([prompt])
        theirs = llama.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        if theirs != tokens:  # it computes parts in float32: only a near tie may fall otherwise
            same = next(
                i for i, pair in enumerate(zip(theirs, tokens, strict=True)) if len({*pair}) > 1
            )
            with torch.no_grad():
                best = model()(torch.tensor(prompt + tokens[:same]))[-1].topk(2).values
            assert best[0] - best[1] < 1e-4


def test_static_is_continuous():
    prompts = tiny.prompts(seed=4, count=9, longest=20)
    lengths = [SamplingParams(max_tokens=1 + 3 * i % 11) for i in range(9)]
    outputs = {
        policy: tokens_of(Engine(model(), policy=policy, max_batch=3).generate(prompts, lengths))
        for policy in ("static", "shrinking", "continuous")
    }
    assert outputs["static"] == outputs["shrinking"] == outputs["continuous"]


@pytest.mark.parametrize("chunk", [1, 5, 16, 33])
def test_chunked_is_whole_prefill(chunk):
    prompts = tiny.prompts(seed=5, count=4, longest=60)
    engine = Engine(model(), chunk=chunk, max_batch=4)
    outputs = engine.generate(prompts, SamplingParams(max_tokens=8))
    assert tokens_of(outputs) == want_of(prompts, 8)
    steps = {}
    for event in [*engine.log.of("prefill"), *engine.log.of("decode")]:
        steps[event["step"]] = steps.get(event["step"], 0) + event["tokens"]
    assert max(steps.values()) <= chunk


@pytest.mark.parametrize("prefix_caching", [False, True])
def test_preempted_is_uninterrupted(prefix_caching):
    prompts = tiny.prompts(seed=6, count=6, longest=8)
    engine = Engine(
        model(), blocks=9, block_size=4, max_batch=6, chunk=7, prefix_caching=prefix_caching
    )
    params = [SamplingParams(max_tokens=20, temperature=0.9 * (i % 2), seed=i) for i in range(6)]
    outputs = engine.generate(prompts, params)
    assert len(engine.log.of("preempt")) >= 5, "few blocks force preemption"
    assert sum(output.metrics.preemptions for output in outputs) == len(engine.log.of("preempt"))
    assert sum(output.metrics.discarded_tokens for output in outputs) > 0
    roomy = Engine(model(), max_batch=6).generate(prompts, params)
    assert tokens_of(outputs) == tokens_of(roomy)
    assert tokens_of(outputs)[::2] == want_of(prompts[::2], 20)
    assert_nothing_held(engine)


def test_prefix_caching_on_is_off():
    prompts = PROMPTS[5:] * 2
    engines = [
        Engine(model(), prefix_caching=on, max_batch=3, block_size=4) for on in (True, False)
    ]
    on, off = (engine.generate(prompts, SamplingParams(max_tokens=9)) for engine in engines)
    assert tokens_of(on) == tokens_of(off) == want_of(prompts, 9)
    hits = [output.metrics.prefix_hit_tokens for output in on]
    assert sum(hits) >= 16 * 5 and hits[0] == 0
    assert not any(output.metrics.prefix_hit_tokens for output in off)
    # what an earlier call computed serves a later one too, even under a whole prompt
    again = engines[0].generate(prompts[:1], SamplingParams(max_tokens=9))[0]
    assert again.tokens == on[0].tokens and again.metrics.prefix_hit_tokens >= 16


def test_the_order_of_arrival_does_not_matter():
    prompts = tiny.prompts(seed=8, count=6, longest=15)
    params = [SamplingParams(max_tokens=8, temperature=i % 2, seed=i) for i in range(6)]
    seen = set()
    for order in itertools.islice(itertools.permutations(range(6)), 0, 720, 240):
        engine = Engine(model(), max_batch=3, chunk=9)
        outputs = engine.generate([prompts[i] for i in order], [params[i] for i in order])
        back = sorted(zip(order, tokens_of(outputs), strict=True))
        seen.add(json.dumps([tokens for _, tokens in back]))
    assert len(seen) == 1


def test_a_seed_gives_the_same_sample_alone_and_in_a_batch():
    prompts = [[5, 3, 96]] * 5
    params = [
        SamplingParams(max_tokens=10, temperature=1.2, seed=11),
        SamplingParams(max_tokens=10, temperature=0.7, top_k=9, seed=12),
        SamplingParams(max_tokens=10),
        SamplingParams(max_tokens=10, temperature=1.0, top_p=0.8, seed=13),
        SamplingParams(max_tokens=10, temperature=1.2, seed=11),
    ]
    together = tokens_of(Engine(model()).generate(prompts, params))
    alone = [tokens_of(Engine(model()).generate([[5, 3, 96]], [one]))[0] for one in params]
    assert together == alone
    assert together[0] == together[4] == sampled((5, 3, 96), params[0], 11)
    assert len({tuple(tokens) for tokens in together}) == 4


def test_without_a_seed_samples_differ_and_the_engines_seed_repeats_them():
    params = SamplingParams(max_tokens=8, temperature=1.0)
    runs = [
        tokens_of(Engine(model(), seed=seed).generate([[1, 2]] * 3, params)) for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]
    assert len({tuple(tokens) for tokens in runs[0] + runs[2]}) == 6


@pytest.mark.parametrize("options", [{}, {"chunk": 4}, {"blocks": 8, "prefix_caching": False}])
def test_n_samples_are_separate_runs(options):
    prompt = list(range(10))
    params = SamplingParams(max_tokens=12, temperature=1.0, seed=20, n=4)
    engine = Engine(model(), **{"block_size": 4, "blocks": 64, **options})
    (output,) = engine.generate([prompt], params)
    want = [sampled(tuple(prompt), params, 20 + i) for i in range(4)]
    assert tokens_of(output.samples) == want
    assert output.tokens == want[0] and output.metrics is output.samples[0].metrics
    assert len(engine.log.of("fork")) == 3
    if options.get("blocks") != 8:
        assert len(engine.log.of("cow")) == 3, "the half-full block was shared, then copied"
        assert sum(event["tokens"] for event in engine.log.of("prefill")) == 10
    else:
        assert engine.log.of("preempt")
    assert_nothing_held(engine)


def test_n_greedy_samples_are_equal():
    (output,) = Engine(model()).generate([[1, 2, 3]], SamplingParams(max_tokens=6, n=3))
    assert tokens_of(output.samples) == [greedy((1, 2, 3), 6)] * 3


# ---- the book's own model ----------------------------------------------------------------------

OPENINGS = [
    "def ", "class ", "import os\n", "The ", "    return self.", "Return the ", "for key in ", "# ",
    "if __name__ ==", "    Raises ValueError if ", "try:\n    ", "with open(", "    def __init__",
    "This module ", "while True:\n", "    assert ",
]  # fmt: skip


@functools.cache
def target(dtype):
    return loading.load("target", dtype)


def test_the_books_model_says_the_same_however_it_is_served():
    tokenizer = load_tokenizer()
    prompts = [tokenizer.encode(text) for text in OPENINGS[:6]]
    plain = []
    with torch.no_grad():
        for prompt in prompts:
            text = list(prompt)
            for _ in range(10):
                text.append(int(target(torch.float64)(torch.tensor(text))[-1].argmax()))
            plain.append(text[len(prompt) :])
    for options in (
        {},
        {"policy": "static", "max_batch": 4},
        {"chunk": 3, "block_size": 4, "blocks": 8},
    ):
        engine = Engine(target(torch.float64), tokenizer, **options)
        outputs = engine.generate(OPENINGS[:6], SamplingParams(max_tokens=10, ignore_end=True))
        assert tokens_of(outputs) == plain
        assert bool(engine.log.of("preempt")) == ("blocks" in options)


@pytest.mark.parametrize("packed", [True, False])
def test_in_float32_only_a_near_tie_falls_otherwise(packed):
    """Every token is the plain model's first choice, or ties with it to four digits: rarely."""
    params = SamplingParams(max_tokens=64, ignore_end=True)
    engine = Engine(target(torch.float32), load_tokenizer(), packed=packed, chunk=40)
    other = count = 0
    for output in engine.generate(OPENINGS, params):
        whole = torch.tensor(output.prompt_tokens + output.tokens)
        with torch.no_grad():
            logits = target(torch.float32)(whole)[len(output.prompt_tokens) - 1 : -1]
        chosen = torch.tensor(output.tokens)
        margin = logits.amax(-1) - logits.gather(-1, chosen[:, None])[:, 0]
        assert margin.max() < 1e-4
        other += int((margin > 0).sum())
        count += len(chosen)
    assert count == 1024 and other <= 1


# ---- bad requests ----------------------------------------------------------------------------

GOOD = ([5, 3, 96], SamplingParams(max_tokens=3))
BAD = [
    ([], None, "prompt is empty"),
    ("text", None, "no tokenizer"),
    ([1] * 128, None, "128 tokens; the context of 128"),
    ([1, 97], None, "97 at place 1"),
    ([1, -1], None, "-1 at place 1"),
    ([1, 2.0], None, "2.0 at place 1"),
    ([True], None, "True at place 0"),
    (["a"], None, "'a' at place 0"),
    ([[1, 2]], None, "place 0"),
    (7, None, "prompt is int"),
    (None, None, "prompt is NoneType"),
    (b"ab", None, "prompt is bytes"),
    ({1, 2}, None, "prompt is set"),
    (torch.tensor(3), None, "prompt is int"),
    ([1] * 40, SamplingParams(max_tokens=60), "needs 25 blocks of 4 tokens; the cache has 20"),
    ([1], SamplingParams(temperature=-1.0), "temperature is -1.0"),
    ([1], SamplingParams(temperature=float("nan")), "temperature is nan"),
    ([1], SamplingParams(temperature=10**400), "temperature is 1000"),
    ([1], SamplingParams(max_tokens=-(10**5000)), "max_tokens is too long to be shown"),
    ([1], SamplingParams(top_p=0.0), "top_p is 0.0"),
    ([1], SamplingParams(top_k=0), "top_k is 0"),
    ([1], SamplingParams(max_tokens=0), "max_tokens is 0"),
    ([1], SamplingParams(stop=("",)), "stop holds ''"),
    ([1], SamplingParams(stop="a"), "without a tokenizer"),
    ([1], SamplingParams(n=20), "n is 20"),
    ([1], {"max_tokens": 3}, "params is {'max_tokens': 3}"),
]


@pytest.mark.parametrize(("prompt", "params", "message"), BAD)
def test_a_bad_request_costs_only_itself(prompt, params, message):
    engine = Engine(model(), blocks=20, block_size=4)
    outputs = engine.generate([GOOD[0], prompt, GOOD[0]], [GOOD[1], params, GOOD[1]])
    bad = outputs[1]
    assert bad.finish == "error" and message in bad.error and bad.tokens == [] and bad.text == ""
    assert tokens_of(outputs[::2]) == want_of([GOOD[0]] * 2, 3)
    assert [event["error"] for event in engine.log.of("reject")] == [bad.error]
    (piece,) = engine.stream(prompt, params)
    assert piece.finish == "error" and piece.error == bad.error and piece.token is None
    assert_nothing_held(engine)


def test_all_bad_requests_together():
    engine = Engine(model(), blocks=20, block_size=4)
    prompts, params, _ = zip(*BAD, strict=True)
    outputs = engine.generate([*prompts, GOOD[0]], [*params, GOOD[1]])
    assert [output.finish for output in outputs] == ["error"] * len(BAD) + ["length"]


def test_a_rejection_is_told_once():
    engine = Engine(model())
    engine.generate([[], [97]])
    assert engine.step() == [], "generate() has told it by its outputs"
    bad = engine.add([])
    assert [piece.request for piece in engine.step()] == [bad.number]
    assert engine.step() == []


@pytest.mark.parametrize("prompt", [(5, 3, 96), np.array([5, 3, 96]), torch.tensor([5, 3, 96])])
def test_sequences_of_other_kinds_are_prompts_too(prompt):
    (output,) = Engine(model()).generate([prompt], GOOD[1])
    assert output.tokens == greedy((5, 3, 96), 3) and output.prompt_tokens == [5, 3, 96]


def test_an_answer_ends_with_the_context():
    (output,) = Engine(model()).generate([[1] * 125], SamplingParams(max_tokens=50))
    assert len(output.tokens) == 3 and output.finish == "length"


def test_a_request_may_fill_the_cache_to_the_last_slot():
    engine = Engine(model(), blocks=5, block_size=4)
    (output,) = engine.generate([[1, 2, 3]], SamplingParams(max_tokens=18))  # 3 + 18 - 1 = 20
    assert output.tokens == greedy((1, 2, 3), 18)


def test_misuse_of_a_call_raises():
    engine = Engine(model())
    with pytest.raises(TypeError, match="prompts is str"):
        engine.generate("abc")
    with pytest.raises(ValueError, match="must be one SamplingParams, or 2 of them"):
        engine.generate([[1], [2]], [SamplingParams()])
    for name, value in [("seed", -1), ("block_size", 0), ("max_batch", 1.5), ("policy", "x")]:
        with pytest.raises(ValueError, match=name):
            Engine(model(), **{name: value})


def test_scores_that_are_no_numbers_end_their_request_only():
    broken = tiny.model(tied_embeddings=False)
    broken.embedding.weight[96] = torch.nan
    for caching in (True, False):
        engine = Engine(broken, block_size=4, blocks=12, prefix_caching=caching)
        good, bad, after = engine.generate([[1, 2], [3, 96], [4, 5]], SamplingParams(max_tokens=9))
        assert bad.finish == "error" and "not finite" in bad.error and bad.tokens == []
        fresh = Engine(broken).generate([[1, 2], [4, 5]], SamplingParams(max_tokens=9))
        assert tokens_of([good, after]) == tokens_of(fresh)
        # the blocks that held it serve others
        many = engine.generate([[7, 8, 9]] * 3, SamplingParams(max_tokens=9))
        assert len({tuple(tokens) for tokens in tokens_of(many)}) == 1
        assert_nothing_held(engine)


@pytest.mark.parametrize("kv_dtype", [None, "int8", "bfloat16"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_blocks_of_a_failed_request_harm_nobody(kv_dtype, bad):
    broken = tiny.model()
    broken.embedding.weight[96] = bad
    engine = Engine(broken, blocks=4, block_size=16, kv_dtype=kv_dtype)
    (failed,) = engine.generate([[1] * 40 + [96]], SamplingParams(max_tokens=2))
    assert failed.finish == "error" and engine.blocks.kept_blocks == []
    outputs = engine.generate([[7], list(range(9))], SamplingParams(max_tokens=4))
    fresh = Engine(broken, blocks=4, block_size=16, kv_dtype=kv_dtype)
    assert tokens_of(outputs) == tokens_of(
        fresh.generate([[7], list(range(9))], SamplingParams(max_tokens=4))
    )


def raising(faulty, method, *at):
    """Let some calls of a method raise, as an interruption or too little memory would."""
    plain, calls = getattr(faulty, method), itertools.count()

    def fails(*arguments):
        if next(calls) in at:
            raise KeyboardInterrupt
        return plain(*arguments)

    setattr(faulty, method, fails)


def run_on(engine):
    """Step to the end through interruptions; all pieces."""
    pieces = []
    for _ in range(200):
        with contextlib.suppress(KeyboardInterrupt):
            pieces += engine.step()
        if not engine.scheduler.unfinished:
            return pieces
    raise AssertionError("no end in sight")


@pytest.mark.parametrize("prefix_caching", [False, True])
def test_rows_that_pad_leave_with_a_failed_batch(prefix_caching):
    faulty = tiny.model()
    raising(faulty, "hidden", 4)
    engine = Engine(
        faulty, policy="static", blocks=9, block_size=2, max_batch=3, prefix_caching=prefix_caching
    )
    one = engine.add(list(range(8)), SamplingParams(max_tokens=11))
    engine.add(list(range(8)), SamplingParams(max_tokens=2))
    run_on(engine)
    assert one.tokens == greedy(tuple(range(8)), 11)
    assert_nothing_held(engine)


def test_no_piece_is_lost_with_a_step_that_raises():
    faulty = tiny.model()
    raising(faulty, "hidden", 0)
    engine = Engine(faulty)
    raising(engine, "_accept", 2)  # in the middle of a step, when the first has its token
    bad = engine.add([])
    good = [engine.add(prompt, SamplingParams(max_tokens=3)) for prompt in ([1, 2], [3])]
    pieces = run_on(engine)
    assert [piece.finish for piece in pieces if piece.request == bad.number] == ["error"]
    for request in good:
        own = [piece.token for piece in pieces if piece.request == request.number]
        assert own == request.tokens == greedy(tuple(request.ids[: request.prompt_length]), 3)


def test_a_step_interrupted_after_the_draw_draws_the_same_again(monkeypatch):
    params = SamplingParams(max_tokens=6, temperature=1.0, seed=1, n=2)
    engine = Engine(model())
    plain, calls = engine_module.sample, itertools.count()

    def interrupted(*arguments):
        tokens = plain(*arguments)
        if next(calls) in (0, 3):
            raise KeyboardInterrupt
        return tokens

    monkeypatch.setattr(engine_module, "sample", interrupted)
    request = engine.add([1, 2], params)
    run_on(engine)
    want = [sampled((1, 2), replace(params, n=1), 1 + i) for i in range(2)]
    assert [one.tokens for one in request.samples] == want
    assert engine.log.of("undo") and not engine.log.of("preempt")


@pytest.mark.parametrize("method", ["hidden", "logits"])
def test_a_model_that_raises_costs_a_step_and_nothing_else(method):
    faulty = tiny.model()
    engine = Engine(faulty, block_size=4, chunk=8)
    raising(faulty, method, 1, 5)
    prompts = [[1, 2, 3], list(range(20)), list(range(21))]
    others = [
        engine.add(prompt, SamplingParams(max_tokens=9, temperature=i % 2, seed=i))
        for i, prompt in enumerate(prompts)
    ]
    with pytest.raises(KeyboardInterrupt):
        engine.generate([[4, 5]], SamplingParams(max_tokens=9))
    interrupted = 1
    while engine.scheduler.unfinished:
        try:
            engine.step()
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted == 2
    assert [one.finish for one in others] == ["length"] * 3
    for i, (one, prompt) in enumerate(zip(others, prompts, strict=True)):
        params = SamplingParams(9, i % 2)
        want = sampled(tuple(prompt), params, i) if i % 2 else greedy(tuple(prompt), 9)
        assert one.tokens == want
    assert_nothing_held(engine)


# ---- streams ---------------------------------------------------------------------------------


def test_a_stream_gives_each_token_as_it_comes():
    engine = Engine(model())
    pieces = list(engine.stream([1, 2, 3], SamplingParams(max_tokens=5)))
    assert [piece.token for piece in pieces] == greedy((1, 2, 3), 5)
    assert [piece.finish for piece in pieces] == [None] * 4 + ["length"]
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert_nothing_held(engine)


def test_streams_read_in_turn_share_the_batch():
    engine = Engine(model())
    params = SamplingParams(max_tokens=6)
    streams = [engine.stream(prompt, params) for prompt in ([1, 2, 3], [4, 5], [6])]
    got = [[], [], []]
    for _ in range(6):
        for stream, tokens in zip(streams, got, strict=True):
            tokens.append(next(stream).token)
    assert got == want_of([[1, 2, 3], [4, 5], [6]], 6)
    batches = {}
    for event in engine.log.of("decode"):
        batches.setdefault(event["step"], []).append(event["request"])
    assert max(map(len, batches.values())) == 3
    assert all(list(stream) == [] for stream in streams)
    assert_nothing_held(engine)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("chunk", [None, 4])
def test_a_stream_closed_early_frees_its_blocks(n, chunk):
    engine = Engine(model(), chunk=chunk, block_size=4)
    other = engine.add([9, 8, 7], SamplingParams(max_tokens=12))
    stream = engine.stream(list(range(20)), SamplingParams(max_tokens=50, n=n))
    for _ in range(4):
        next(stream)
    assert len(engine.scheduler.running) == 1 + n
    stream.close()
    assert engine.scheduler.running == [other]
    while other.status is not Status.FINISHED:
        engine.step()
    assert other.tokens == greedy((9, 8, 7), 12)
    assert engine.log.of("finish")[0]["reason"] == "abort"
    assert_nothing_held(engine)


def test_a_dropped_stream_frees_its_blocks():
    engine = Engine(model())
    for _ in engine.stream([1, 2, 3], SamplingParams(max_tokens=50)):
        break
    assert_nothing_held(engine)


def test_a_stream_queues_its_prompt_at_once():
    engine = Engine(model())
    dropped = engine.stream([1, 2, 3], SamplingParams(max_tokens=5))
    assert len(engine.scheduler.waiting) == 1
    stream = engine.stream([4, 5], SamplingParams(max_tokens=5))
    del dropped  # never asked for anything
    assert [request.ids for request in engine.scheduler.waiting] == [[4, 5]]
    assert [piece.token for piece in stream] == greedy((4, 5), 5)
    assert not engine.streams
    assert_nothing_held(engine)


@pytest.mark.parametrize("steps", [0, 1, 6])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_samples_of_a_prompt_stop_together(steps, which):
    """Before they are forked off and after, whichever of them is aborted."""
    engine = Engine(model(), chunk=2)
    other = engine.add([9], SamplingParams(max_tokens=12))
    request = engine.add([1, 2, 3, 4, 5], SamplingParams(max_tokens=9, n=3))
    for _ in range(steps):
        engine.step()
    assert len(engine.log.of("fork")) == (2 if steps == 6 else 0)
    engine.abort(request.samples[which])
    run_on(engine)
    assert [one.finish for one in request.samples] == ["abort"] * 3
    assert not any(one.generated for one in request.samples) or steps == 6
    output = engine.output(request.samples[which])
    assert output.tokens == request.samples[which].tokens and len(output.samples) == 3
    assert other.tokens == greedy((9,), 12)
    assert_nothing_held(engine)


def test_a_stream_that_others_abort_ends():
    engine = Engine(model())
    stream = engine.stream([1, 2, 3], SamplingParams(max_tokens=50))
    next(stream)
    engine.abort(engine.scheduler.running[0])
    assert [piece.finish for piece in stream] == ["abort"]
    assert_nothing_held(engine)


def test_leaving_at_any_moment_leaks_nothing():
    draw = random.Random(5)
    for _ in range(15):
        engine = Engine(model(), blocks=16, block_size=4, max_batch=4, chunk=draw.choice([None, 5]))
        requests = [
            engine.add(prompt, SamplingParams(max_tokens=12, n=draw.randint(1, 2)))
            for prompt in tiny.prompts(seed=draw.randrange(99), count=5, longest=24)
        ]
        for _ in range(draw.randrange(8)):
            engine.step()
        kept = requests.pop(draw.randrange(5))
        for request in requests:
            engine.abort(request)
        while engine.scheduler.unfinished:
            engine.step()
        want = greedy(tuple(kept.ids[: kept.prompt_length]), 12)
        assert kept.tokens == want
        assert_nothing_held(engine)


# ---- text ------------------------------------------------------------------------------------


class ByteTokenizer:
    """Token ``i`` is the byte ``i``; 256 ends a text."""

    end = 256

    def __len__(self):
        return 257

    def token_bytes(self, token):
        return b"" if token == 256 else bytes([token])

    def encode(self, text):
        return list(text.encode())


@functools.cache
def talker():
    """An engine whose random model says random bytes, printable ones only."""
    made = tiny.model(vocab=257, tied_embeddings=False)
    for token in range(257):
        if not 97 <= token <= 122:
            made.head.weight[token] = 0.0
    return made


def test_text_in_and_out():
    engine = Engine(talker(), ByteTokenizer())
    (output,) = engine.generate(["hello"], SamplingParams(max_tokens=20))
    assert output.prompt_tokens == list(b"hello")
    assert output.text == bytes(output.tokens).decode() and len(output.text) == 20


def test_stop_strings_end_the_text_before_them():
    engine = Engine(talker(), ByteTokenizer())
    (plain,) = engine.generate(["hello"], SamplingParams(max_tokens=20, ignore_end=True))
    stop = plain.text[7:10]
    end = plain.text.index(stop)
    params = SamplingParams(max_tokens=20, stop=["zzzz", stop])
    (output,) = engine.generate(["hello"], params)
    assert output.text == plain.text[:end] and output.finish == "stop"
    assert output.tokens == plain.tokens[: end + 3], "the tokens tell what was generated"
    pieces = list(engine.stream("hello", params))
    assert "".join(piece.text for piece in pieces) == output.text
    assert pieces[-1].finish == "stop"
    assert_nothing_held(engine)


def test_a_stop_string_that_the_end_completes_is_a_stop():
    made = tiny.model(vocab=257, tied_embeddings=False)
    made.head.weight.zero_()
    plain = made.logits

    def logits(hidden):  # a model that begins a character and never ends it
        out = plain(hidden)
        out[:, 0xE2] += 5.0
        return out

    made.logits = logits
    engine = Engine(made, ByteTokenizer())
    (output,) = engine.generate(["a"], SamplingParams(max_tokens=1, stop="\ufffd"))
    assert (output.text, output.finish) == ("", "stop")


def test_end_of_text_and_stop_tokens():
    made = tiny.model(vocab=257, tied_embeddings=False)
    engine = Engine(made, ByteTokenizer())
    (plain,) = engine.generate([[1, 2, 3]], SamplingParams(max_tokens=20, ignore_end=True))
    token = plain.tokens[8]
    first = plain.tokens.index(token)
    params = SamplingParams(max_tokens=20, stop_tokens=[token], ignore_end=True)
    (output,) = engine.generate([[1, 2, 3]], params)
    assert output.finish == "stop" and output.tokens == plain.tokens[: first + 1]
    assert output.text == bytes(t for t in plain.tokens[:first] if t < 256).decode(errors="replace")
    tokenizer = ByteTokenizer()
    tokenizer.end = token
    (ended,) = Engine(made, tokenizer).generate([[1, 2, 3]], SamplingParams(max_tokens=20))
    assert ended.finish == "stop" and ended.tokens == output.tokens


def test_streamed_text_holds_no_half_characters():
    made = tiny.model(vocab=257, tied_embeddings=False)
    made.head.weight.zero_()
    word = "né€😀".encode()
    plain, step = made.logits, itertools.count()

    def logits(hidden):  # a model that says one word again and again
        out = plain(hidden)
        out[:, word[next(step) % len(word)]] += 5.0
        return out

    made.logits = logits
    engine = Engine(made, ByteTokenizer())
    pieces = [piece.text for piece in engine.stream("a", SamplingParams(max_tokens=18))]
    assert pieces[:10] == ["n", "", "é", "", "", "€", "", "", "", "😀"]
    assert "".join(pieces) == ("né€😀" * 2)[:-1] + "�"  # the answer ended within a character


# ---- what is told of it ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "chunk"), [("continuous", 9), ("continuous", None), ("static", None)]
)
def test_events_alone_rebuild_the_engines_state(policy, chunk, tmp_path):
    engine = Engine(model(), policy=policy, blocks=12, block_size=4, max_batch=4, chunk=chunk)
    requests = [
        engine.add(prompt, SamplingParams(max_tokens=12, n=n))
        for prompt, n in zip(PROMPTS[3:], (1, 2, 1, 1, 2, 1), strict=True)
    ]
    requests.append(engine.add([]))
    state, seen, snapshots = State(), 0, {}
    while engine.scheduler.unfinished:
        engine.step()
        for event in engine.log.events[seen:]:
            state.apply(event)
        seen = len(engine.log)
        running = engine.scheduler.running
        assert state.running == [r.number for r in running]
        assert state.waiting == [r.number for r in engine.scheduler.waiting]
        assert state.computed == {r.number: r.computed for r in running}
        held = running + engine.scheduler.padding
        assert state.tables == {r.number: list(engine.blocks.table(r.number)) for r in held}
        free = engine.cache.blocks - len(state.references)
        assert free == engine.blocks.free_blocks
        snapshots[state.step] = (list(state.running), list(state.waiting), dict(state.tokens))
    kinds = {event["kind"] for event in engine.log}
    assert {"preempt", "fork", "cow", "prefix_hit", "reject", "finish"} <= kinds
    assert ("pad" in kinds) == (policy == "static")
    family = [one for request in requests for one in request.samples or [request]]
    assert state.tokens == {one.number: one.tokens for one in family if one.tokens}
    assert state.finished == {one.number: one.finish for one in family}
    # through a file and back
    engine.log.write(tmp_path / "events.jsonl")
    events = read(tmp_path / "events.jsonl")
    assert events == engine.log.events
    for _, replayed in replay(events):
        last = replayed
    assert last == state
    times = [event["time_s"] for event in events]
    assert times == sorted(times)


def test_samples_are_admitted_with_their_prompt():
    engine = Engine(model(), clock=itertools.count().__next__, chunk=2)
    engine.add([7], SamplingParams(max_tokens=4))
    (output,) = engine.generate([[1, 2, 3, 4, 5]], SamplingParams(max_tokens=3, n=3))
    times = [sample.metrics.admitted_s for sample in output.samples]
    assert times[0] is not None and times == times[:1] * 3
    assert times[0] < output.metrics.token_times_s[0]


def test_a_counting_clock_makes_the_log_repeatable():
    def run():
        engine = Engine(model(), clock=itertools.count().__next__, chunk=6)
        engine.generate(PROMPTS[:4], SamplingParams(max_tokens=5, temperature=1.0))
        return engine.log.lines()

    assert run() == run()


def test_metrics_tell_the_times():
    ticks = itertools.count()
    engine = Engine(model(), clock=lambda: float(next(ticks)), max_batch=1, log=False)
    first, second = engine.generate([[1, 2], [3, 4, 5]], SamplingParams(max_tokens=4))
    for output in (first, second):
        m = output.metrics
        assert m.tokens == 4 and m.prompt_tokens == len(output.prompt_tokens)
        assert m.arrival_s < m.admitted_s < m.token_times_s[0] < m.finished_s + 1
        assert len(m.itl_s) == 3 and all(gap > 0 for gap in m.itl_s)
        assert sum(m.itl_s) + m.ttft_s == m.latency_s
        assert m.queue_s < m.ttft_s
    assert second.metrics.admitted_s > first.metrics.finished_s, "one at a time"
    assert second.metrics.queue_s > first.metrics.queue_s
    total = second.metrics.finished_s - first.metrics.arrival_s
    assert tokens_per_s([first.metrics, second.metrics]) == 8 / total
    assert not engine.log.events, "log=False keeps none"
