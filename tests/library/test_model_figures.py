"""The replay of a request: what it shows at each step is what the engine held."""

from __future__ import annotations

import random

import pytest
from engine_watch import as_shown, snapshots

import tiny
from helpers.book.figures.model import Arrival, record_run, request_frames, request_replay
from helpers.lm import tokenizer as tokenizers
from helpers.serve.engine import Engine
from helpers.serve.request import SamplingParams


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.load()


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny.model(vocab=len(tokenizer))


@pytest.fixture(scope="module")
def made(model, tokenizer):
    return request_replay(model, tokenizer)


def compare(run, seen, letters, count, size, follow):
    """Hold the last frame of each step, before the next is planned, against the engine."""
    last = {}
    for frame in run.frames:
        if frame.says.startswith("Step ") or " leaves " in frame.says:
            last[frame.states["lanes"]] = frame
    assert set(seen) <= set(last)
    for step, held in seen.items():
        states = last[step].states
        blocks = [
            None if b is None else "kept" if b.kept else (b.owners, b.filled, False)
            for b in states["blocks"]
        ]
        assert blocks == as_shown(held, letters, count, size), step
        assert states["facts"][1:3] == [held["waiting"], len(held["tables"])]
        assert states["facts"][4] == f"{held['free']} of {count}"
        table = held["tables"].get(follow, [])
        assert states["facts"][5] == (" → ".join(map(str, table)) or "none")
        tokens = states["tokens"]
        if follow in held["ids"]:
            assert len(tokens) == len(held["ids"][follow])
        there = sum("waiting" not in token.kind for token in tokens)
        assert there == held["computed"].get(follow, 0)


def test_each_step_shows_what_the_engine_held(monkeypatch, model, tokenizer):
    seen = snapshots(monkeypatch)
    run = request_replay(model, tokenizer).runs[""]
    compare(run, seen, "ABCD", 13, 8, 2)
    assert len(seen) == run.panels["lanes"].length


@pytest.mark.parametrize("seed", range(8))
def test_and_so_with_any_requests(monkeypatch, seed):
    draw = random.Random(seed)
    small = tiny.model(seed)
    head = tuple(draw.randrange(97) for _ in range(12))
    arrivals, step = [], 0
    for _ in range(draw.randint(1, 6)):
        own = tuple(draw.randrange(97) for _ in range(draw.randint(1, 15)))
        prompt = head[: draw.randint(0, 12)] + own
        arrivals.append(Arrival(step, prompt, draw.randint(1, 20)))
        step += draw.choice([0, 1, 5, 60])  # at 60 the engine may be idle in between
    size = draw.choice([2, 4, 8])
    count = -(-50 // size) + draw.randint(0, 6)
    seen = snapshots(monkeypatch)
    chunk, follow = draw.choice([None, 5, 16]), draw.randrange(len(arrivals))
    events, ids = record_run(small, None, arrivals, blocks=count, block_size=size, chunk=chunk)
    texts = [[str(t) for t in one] for one in ids]
    run = request_frames(events, texts, follow, blocks=count, block_size=size)
    compare(run, seen, "ABCDEF", count, size, follow)
    assert run.record  # every panel accepts its states


def test_the_story_has_everything_whatever_the_model(made):
    """Lengths and prompts decide what is scheduled: a new checkpoint changes words only."""
    text = " ".join(made.runs[""].says)
    for words in (
        "arrives, the one we follow", "are in the cache already", "must wait for the next",
        "first token", "got block", "is preempted", "admitted again", "of C again",
        "its share of block 0",
        "is given up", "stay until the room is needed", "C has its 16 tokens",
    ):  # fmt: skip
        assert words in text, words
    assert made.runs[""].panels["blocks"].legend.count(":") == 4
    kinds = {span.kind for span in made.runs[""].panels["lanes"].spans}
    assert kinds == {"waiting", "prefill", "decode", "preempted"}


def test_it_shows_the_tokens_that_the_model_gives_alone(model, tokenizer, made):
    from helpers.book.figures.model import ARRIVALS

    params = SamplingParams(max_tokens=ARRIVALS[2].tokens, ignore_end=True)
    alone = Engine(model, tokenizer).generate([ARRIVALS[2].prompt], params)[0]
    last = made.runs[""].frames[-1].states["tokens"]
    assert [t.text for t in last if "made" in t.kind] == [
        tokenizer.decode([t]) if "\ufffd" not in tokenizer.decode([t])
        else tokenizer.token_bytes(t).hex(" ")
        for t in alone.tokens
    ]  # fmt: skip
    prompt = "".join(t.text for t in last if "made" not in t.kind)
    assert prompt == ARRIVALS[2].prompt


def test_lanes_say_when_each_request_was_computed(model, tokenizer):
    from helpers.book.figures.model import ARRIVALS

    events, ids = record_run(model, tokenizer, ARRIVALS, blocks=13, block_size=8, chunk=16)
    run = request_frames(events, [["x"] * len(i) for i in ids], 2, blocks=13, block_size=8)
    spans = run.panels["lanes"].spans
    for kind in ("prefill", "decode"):
        right = {(e["request"], e["step"]) for e in events if e["kind"] == kind}
        shown = {
            (s.lane, step) for s in spans if s.kind == kind
            for step in range(s.start + 1, s.stop + 1)
        }  # fmt: skip
        assert shown == right


def test_it_is_the_same_every_time_and_small(model, tokenizer, made):
    assert request_replay(model, tokenizer).html == made.html
    assert len(made.html.encode()) < 40_000


def test_what_cannot_be_served_or_shown_is_named(model, tokenizer):
    settings = {"blocks": 4, "block_size": 4, "chunk": None}
    with pytest.raises(ValueError, match="not in order"):
        record_run(model, None, [Arrival(1, (1,), 1), Arrival(0, (1,), 1)], **settings)
    with pytest.raises(ValueError, match="prompt is empty"):
        record_run(model, None, [Arrival(0, (), 1)], **settings)
    with pytest.raises(ValueError, match="needs 5 blocks"):
        record_run(model, None, [Arrival(0, (1,) * 16, 4)], **settings)
    with pytest.raises(ValueError, match="follow: 1 is no request"):
        request_frames([], [["a"]], 1, blocks=4, block_size=4)
    with pytest.raises(ValueError, match="0 requests"):
        request_frames([], [], 0, blocks=4, block_size=4)
