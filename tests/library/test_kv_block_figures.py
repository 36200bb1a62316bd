"""The replay of blocks: what it shows at each step is what the engine held."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from engine_watch import as_shown, snapshots

import tiny
from helpers.book.figures.engine_story import Arrival, record_run
from helpers.book.figures.kv_blocks import BLOCK_SIZE, SCENARIOS, block_frames, blocks_replay

SHARED, ANSWERS, FEW = SCENARIOS


@pytest.fixture(scope="module")
def made():
    return blocks_replay(tiny.model())


def compare(run, seen, letters, count, size):
    """Hold the last frame of each step, before the next is planned, against the engine."""
    last = {}
    for frame in run.frames:
        words = frame.says
        if words.startswith("Step ") or "and leaves: " in words or "computed once" in words:
            last[frame.states["lanes"]] = frame.states
    assert set(seen) == set(last)
    for step, held in seen.items():
        blocks = [
            None if b is None else "kept" if b.kept else (b.owners, b.filled, False)
            for b in last[step]["blocks"]
        ]
        assert blocks == as_shown(held, letters, count, size), step
        tables = held["tables"]
        used = len({block for table in tables.values() for block in table})
        kept = len(held["kept"])
        entries = sum(map(len, tables.values()))
        assert used + held["free"] == count
        assert last[step]["facts"] == [
            step, held["waiting"], used, kept, held["free"] - kept, entries
        ]  # fmt: skip
        assert last[step]["tables"] == [
            " → ".join(map(str, tables.get(number, ()))) or "none" for number in range(len(letters))
        ]


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_step_shows_what_the_engine_held(monkeypatch, name):
    seen = snapshots(monkeypatch)
    scenario = SCENARIOS[name]
    run = blocks_replay(tiny.model(), scenarios={name: scenario}).runs[name]
    compare(run, seen, "ABCD", scenario.blocks, BLOCK_SIZE)
    assert len(seen) == run.panels["lanes"].length


@pytest.mark.parametrize("seed", range(16))
def test_and_so_with_any_requests_and_samples(monkeypatch, seed):
    draw = random.Random(seed)
    head = tuple(draw.randrange(97) for _ in range(12))
    arrivals, step = [], 0
    for _ in range(draw.randint(1, 4)):
        own = tuple(draw.randrange(97) for _ in range(draw.randint(1, 15)))
        prompt = head[: draw.randint(0, 12)] + own
        arrivals.append(Arrival(step, prompt, draw.randint(1, 20), draw.randint(1, 4)))
        step += draw.choice([0, 1, 5, 60])
    size = draw.choice([2, 4, 8])
    count = -(-50 // size) + draw.randint(0, 6)
    seen = snapshots(monkeypatch)
    events, ids = record_run(
        tiny.model(seed), None, arrivals,
        blocks=count, block_size=size, chunk=draw.choice([None, 5, 16]),
    )  # fmt: skip
    run = block_frames(events, len(ids), blocks=count, block_size=size)
    letters = "ABCDEFGHIJKLMNOP"[: len(ids)]
    assert len(ids) == sum(arrival.samples for arrival in arrivals)
    compare(run, seen, letters, count, size)
    assert run.record  # every panel accepts its states
    kinds = Counter(event["kind"] for event in events)
    text = " ".join(run.says)
    assert text.count("gets a copy") == kinds["cow"]
    assert text.count("is preempted") == kinds["preempt"]
    assert text.count("and leaves: ") == kinds["finish"] == len(ids)
    assert text.count("are in the cache already") == kinds["prefix_hit"]
    assert text.count(" opens block ") + text.count(" is admitted") == kinds["allocate"]


def test_a_common_beginning_is_held_once(made):
    """Three full blocks of the common prompt: five blocks less than the tables name."""
    run = made.runs[SHARED]
    text = " ".join(run.says)
    assert "B is admitted: its first 12 tokens are in the cache already, in blocks 0, 1" in text
    assert "A and B share what they begin with" in text
    assert "D is admitted: its first 12 tokens are in the cache already" in text
    assert "is gone, but the contents were kept" in text  # D comes when A and B have left
    saved = [f.states["facts"][5] - f.states["facts"][2] for f in run.frames]
    assert max(saved) == 3
    assert "is preempted" not in text and "gets a copy" not in text


def test_answers_share_the_prompt_and_copy_its_last_block(made):
    run = made.runs[ANSWERS]
    text = " ".join(run.says)
    assert "B, C and D begin with A's table, blocks 0, 1 and 2. Nothing is copied yet" in text
    copies = re.findall(r"([A-D])'s next token belongs in block 2", text)
    assert copies == ["A", "B", "C"]
    assert "D is now alone with block 2 and may write to it" in text
    forked = next(f for f in run.frames if "Nothing is copied" in f.says)
    assert forked.states["facts"][2] == 3 and forked.states["facts"][5] == 12


def test_too_few_blocks_are_given_up_and_taken_back(made):
    text = " ".join(made.runs[FEW].says)
    for words in (
        "No block is empty, so its old contents", "C, the youngest of those that run, is preempted",
        "C is admitted again: its first 12 tokens", "C computed them itself",
        "is given up", "stay for now",
    ):  # fmt: skip
        assert words in text, words
    kinds = {span.kind for span in made.runs[FEW].panels["lanes"].spans}
    assert kinds == {"waiting", "prefill", "decode", "preempted"}


def test_the_run_is_the_same_with_any_model(made):
    """Only lengths decide: another model samples other tokens into the same blocks."""
    other = blocks_replay(tiny.model(5, layers=1, vocab=300))
    assert other.html == made.html


def test_it_is_small_and_says_what_to_choose(made):
    assert len(made.html.encode()) < 40_000
    assert list(made.runs) == list(SCENARIOS) and len(SCENARIOS) == 3
    for title in SCENARIOS:
        assert title in made.html


def test_what_cannot_be_shown_is_named():
    with pytest.raises(ValueError, match="0 requests"):
        block_frames([], 0, blocks=4, block_size=4)
