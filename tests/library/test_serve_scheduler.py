"""The scheduler, driven without a model: a cache of labels shows whether the plan is sound."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.serve.blocks import BlockManager
from helpers.serve.events import EventLog, State
from helpers.serve.metrics import RequestMetrics
from helpers.serve.request import Request, SamplingParams, Status
from helpers.serve.scheduler import Scheduler


def next_token(ids):
    """What the pretended model says: it depends on everything before."""
    return hash(tuple(ids)) % 50


class Drive:
    """Runs a scheduler as the engine does, with labels in place of keys and values.

    The label of a slot is the whole text up to its token. Before a request is 'computed', all slots
    before it must hold the labels of its own text: then attention would read the right things.
    """

    def __init__(self, blocks=12, block_size=4, prefix_caching=True, **options):
        self.log = EventLog(clock=lambda: 0.0)
        self.blocks = BlockManager(
            blocks, block_size, prefix_caching=prefix_caching, on_event=self.log.record_block
        )
        self.scheduler = Scheduler(self.blocks, log=self.log, **options)
        self.total, self.size = blocks, block_size
        self.labels = {}
        self.state = State()
        self.replayed = 0
        self.requests = []
        self.steps = 0

    def request(self, prompt, limit):
        made = Request(
            len(self.requests), list(prompt), len(prompt), limit, SamplingParams(),
            RequestMetrics(0.0),
        )  # fmt: skip
        self.requests.append(made)
        return made

    def add(self, prompt, limit, n=1):
        family = [self.request(prompt, limit) for _ in range(n)]
        first = family[0]
        if n > 1:
            first.siblings, first.samples = family[1:], family
        for one in family:
            parent = {} if one is first else {"parent": first.number}
            self.log.record("arrive", one.number, prompt=len(prompt), **parent)
        self.scheduler.add(first)
        return first

    def slot(self, request, position):
        return self.blocks.table(request.number)[position // self.size], position % self.size

    def step(self):
        self.log.step += 1
        self.steps += 1
        before = [r.number for r in self.scheduler.running]
        step = self.scheduler.schedule()
        self.check_plan(step, before)
        for source, destination in step.copies:
            for offset in range(self.size):
                self.labels[destination, offset] = self.labels.get((source, offset))
        for request, start, count in step.work:
            for position in range(start, start + count):
                self.labels[self.slot(request, position)] = tuple(request.ids[: position + 1])
        for request, start, count in step.work:
            for position in range(start + count):
                held = self.labels.get(self.slot(request, position))
                assert held == tuple(request.ids[: position + 1]), (request, position)
        for place, request in self.scheduler.computed(step):
            assert step.work[place].request in (request, *self.requests)
            request.ids.append(next_token([*request.ids, request.number]))
            self.log.record("token", request.number, token=request.ids[-1])
            if request.generated >= request.limit:
                self.scheduler.finish(request, "length")
        self.check_state()
        return step

    def fail(self):
        """A step in which the model raises after it has written anything to where it may."""
        self.log.step += 1
        self.steps += 1
        for request, start, count in self.scheduler.schedule().work:
            for position in range(start, start + count) if request.status is Status.RUNNING else ():
                self.labels[self.slot(request, position)] = None
        self.scheduler.undo()
        assert not self.scheduler.running
        self.check_state()

    def check_plan(self, step, before):
        s = self.scheduler
        kinds = {event["kind"] for event in self.log.events if event["step"] == self.log.step}
        assert not {"preempt", "admit"} <= kinds, "what is taken from one is given to another"
        assert len({work.request.number for work in step.work}) == len(step.work)
        assert step.tokens <= (s.chunk or 10**9)
        for request, start, count in step.work:
            if request.status is Status.FINISHED:
                assert s.policy == "static" and (start, count) == (request.computed - 1, 1)
                continue
            assert request.status is Status.RUNNING
            assert start == request.computed and count >= 1
            assert start + count <= len(request.ids) == request.placed
        if s.policy != "continuous":
            admitted = {r.number for r in s.running} - set(before)
            assert not (admitted and before), "a static batch is closed"

    def check_state(self):
        s = self.scheduler
        running, waiting = ([r.number for r in group] for group in (s.running, s.waiting))
        assert running == sorted(running) and waiting == sorted(waiting)
        assert not (running and waiting) or running[-1] < waiting[0]
        assert sum(1 + len(r.siblings) for r in s.running) <= s.max_batch
        held = [r.number for r in s.running + s.padding]
        assert s.running or not held, "nothing outlives its batch"
        used = Counter(block for number in held for block in self.blocks.table(number))
        assert self.blocks.free_blocks == self.total - len(used)
        for block, count in used.items():
            assert self.blocks.reference_count(block) == count
        # the events alone tell the same
        for event in self.log.events[self.replayed :]:
            self.state.apply(event)
        self.replayed = len(self.log.events)
        assert self.state.running == running and self.state.waiting == waiting
        assert self.state.tables == {n: list(self.blocks.table(n)) for n in held}
        assert self.state.computed == {r.number: r.computed for r in s.running}
        assert self.state.references == used
        assert self.state.tokens == {r.number: r.tokens for r in self.requests if r.generated}
        done = {r.number: r.finish for r in self.requests if r.status is Status.FINISHED}
        assert self.state.finished == done

    def run(self):
        work = sum(len(r.ids) + r.limit for r in self.requests) + 1
        while self.scheduler.unfinished:
            assert self.step().work, "a step without work"
            assert self.steps < 60 * work, "no end in sight"
        assert self.blocks.free_blocks == self.total
        for request in self.requests:
            text = list(request.ids[: request.prompt_length])
            for token in request.tokens:
                assert token == next_token([*text, request.number])
                text.append(token)
        return self


def fits(drive, prompt, limit):
    return -(-(len(prompt) + limit - 1) // drive.size) <= drive.total


prompts = st.lists(st.integers(0, 2), min_size=1, max_size=14)


@settings(max_examples=200)
@given(
    asked=st.lists(
        st.tuples(prompts, st.integers(1, 9), st.integers(0, 6), st.integers(1, 3)),
        min_size=1,
        max_size=7,
    ),
    leaves=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=2),
    fails=st.sets(st.integers(0, 15), max_size=3),
    blocks=st.integers(6, 16),
    block_size=st.integers(1, 4),
    prefix_caching=st.booleans(),
    policy=st.sampled_from(["continuous"] * 3 + ["static", "shrinking"]),
    max_batch=st.integers(3, 6),
    chunk=st.none() | st.integers(1, 12),
)
def test_any_load_is_served_soundly(
    asked, leaves, fails, blocks, block_size, prefix_caching, policy, chunk, max_batch
):
    """Random loads, arrivals, families, departures, failures: sound plans, events, no leak."""
    chunk = chunk if policy == "continuous" else None
    drive = Drive(
        blocks, block_size, prefix_caching, policy=policy, chunk=chunk, max_batch=max_batch
    )
    late = sorted(asked, key=lambda ask: ask[2])
    left = Counter(step for step, _ in leaves)
    while late or drive.scheduler.unfinished:
        while late and late[0][2] <= drive.steps:
            prompt, limit, _, n = late.pop(0)
            if fits(drive, prompt, limit):
                drive.add(prompt, limit, n)
        for step, which in leaves if left[drive.steps] else ():
            if step == drive.steps and which < len(drive.requests):
                one = drive.requests[which]
                # a sibling that still waits for its fork goes with the first of its family
                waits = any(one in other.siblings for other in drive.requests)
                if one.status is not Status.FINISHED and not waits:
                    for member in [one, *one.siblings]:
                        drive.scheduler.finish(member, "abort")
        if drive.scheduler.unfinished and drive.steps in fails:
            drive.fail()
        elif drive.scheduler.unfinished:
            assert drive.step().work
        else:
            drive.steps += 1
    drive.check_state()
    drive.run()
    assert all(r.generated == r.limit for r in drive.requests if r.finish != "abort"), (
        "every request gets all its tokens"
    )


def test_few_blocks_preempt_the_youngest_and_all_still_finish():
    drive = Drive(blocks=6, block_size=2, prefix_caching=False, max_batch=4)
    for start in range(4):
        drive.add([start, start + 1], 9)
    drive.run()
    preempted = [event["request"] for event in drive.log.of("preempt")]
    assert preempted and 0 not in preempted, "the oldest is never preempted"
    assert sum(r.metrics.preemptions for r in drive.requests) == len(preempted)
    ends = [event["request"] for event in drive.log.of("finish")]
    assert ends == [0, 1, 2, 3]


def test_running_requests_keep_a_block_each_before_another_is_admitted():
    """Else the second, which just fits, would be preempted at once."""
    drive = Drive(blocks=6, block_size=2)
    drive.add([1, 2, 3, 4], 5)
    drive.add(list(range(10, 18)), 1)
    drive.run()
    assert not drive.log.of("preempt")
    assert [event["step"] for event in drive.log.of("admit")] == [1, 6]


def test_a_found_prefix_makes_room():
    drive = Drive(blocks=5, block_size=2)
    drive.add([1, 2, 3, 4, 5], 3)
    drive.add([1, 2, 3, 4, 6], 1)  # needs one block beside those of the first, one is kept for it
    drive.step()
    assert [event["request"] for event in drive.log.of("admit")] == [0, 1]
    drive.run()


def test_hits_are_those_of_the_first_admission():
    """After a preemption or a failed step a request finds what it computed itself."""
    drive = Drive(blocks=6, block_size=2, max_batch=4)
    for start in range(4):
        drive.add([start, start + 10], 9)
    drive.run()
    again = [event for event in drive.log.of("admit") if event["hits"]]
    assert drive.log.of("preempt") and again
    assert not any(request.metrics.prefix_hit_tokens for request in drive.requests)
    drive = Drive(64, 4, chunk=8)
    request = drive.add(list(range(20)), 3)
    drive.step()
    drive.fail()
    drive.run()
    assert [event["hits"] for event in drive.log.of("admit")] == [0, 8]
    assert request.metrics.prefix_hit_tokens == 0


def test_a_failed_step_is_no_preemption():
    drive = Drive(64, 4, policy="static", max_batch=3, prefix_caching=False)
    for limit in (2, 9, 9):
        drive.add([1, 2, 3], limit)
    for _ in range(4):
        drive.step()
    assert drive.scheduler.padding
    drive.fail()
    assert drive.blocks.free_blocks == 64, "rows that pad leave with their batch"
    assert len(drive.log.of("undo")) == 2 and not drive.log.of("preempt")
    assert not any(request.metrics.preemptions for request in drive.requests)
    drive.run()


def test_events_tell_of_a_truncation():
    log = EventLog(clock=lambda: 0.0)
    manager = BlockManager(8, 2, on_event=log.record_block)
    manager.allocate(0, [1, 2, 3, 4, 5])
    manager.truncate(0, 2)
    state = State()
    for event in log:
        state.apply(event)
    assert log.of("truncate") and state.tables == {0: manager.table(0)} == {0: [0]}


def test_a_static_batch_waits_for_its_longest():
    drives = {}
    for policy in ("static", "shrinking", "continuous"):
        drives[policy] = drive = Drive(64, 4, policy=policy, max_batch=2)
        for limit in (2, 10, 2, 10):
            drive.add([1, 2, 3], limit)
        drive.run()
    admitted = {
        policy: {event["request"]: event["step"] for event in drive.log.of("admit")}
        for policy, drive in drives.items()
    }
    assert admitted["static"] == admitted["shrinking"] == {0: 1, 1: 1, 2: 11, 3: 11}
    assert admitted["continuous"] == {0: 1, 1: 1, 2: 3, 3: 5}
    steps = {policy: drive.steps for policy, drive in drives.items()}
    assert steps == {"static": 20, "shrinking": 20, "continuous": 14}
    # the row that is done computes on while the other is not: 8 steps in each of two batches
    assert len(drives["static"].log.of("pad")) == 16
    assert not drives["shrinking"].log.of("pad") and not drives["continuous"].log.of("pad")


def test_rows_that_pad_make_room_before_anyone_is_preempted():
    drive = Drive(blocks=6, block_size=2, prefix_caching=False, policy="static", max_batch=3)
    for limit in (9, 2, 2):
        drive.add([1, 2], limit)
    drive.run()
    assert drive.log.of("pad") and not drive.log.of("preempt")
    assert drive.steps == 9


def test_a_long_prompt_in_chunks_lets_others_decode():
    def widths(chunk):
        drive = Drive(64, 4, chunk=chunk, max_batch=4)
        drive.add([1, 2], 8)
        drive.step()
        drive.add(list(range(30)), 2)
        drive.run()
        tokens = Counter()
        for kind in ("prefill", "decode"):
            for event in drive.log.of(kind):
                tokens[event["step"]] += event["tokens"]
        decoded = [event["step"] for event in drive.log.of("token") if event["request"] == 0]
        return max(tokens.values()), decoded

    assert widths(None) == (31, list(range(1, 9)))
    widest, decoded = widths(8)
    assert widest == 8 and decoded == list(range(1, 9))


def test_a_shared_beginning_is_computed_once():
    common = list(range(8))
    drive = Drive(64, 4, chunk=8)
    drive.add([*common, 20], 3)
    drive.add([*common, 21, 22], 3)
    drive.run()
    first, second = drive.requests
    assert first.metrics.prefix_hit_tokens == 0 and second.metrics.prefix_hit_tokens == 8
    prefilled = sum(event["tokens"] for event in drive.log.of("prefill"))
    assert prefilled == 9 + 2


def test_what_was_never_computed_is_no_prefix():
    """A request that leaves half computed must not pass on blocks that nobody wrote."""
    drive = Drive(64, 4, chunk=5)
    gone = drive.add(list(range(20)), 3)
    drive.step()
    drive.scheduler.finish(gone, "abort")
    after = drive.add(list(range(20)), 3)
    drive.run()
    assert after.metrics.prefix_hit_tokens == 4


def test_forks_share_blocks_until_they_write():
    drive = Drive(64, 4)
    drive.add(list(range(10)), 4, n=3)
    drive.step()
    tables = [drive.blocks.table(number) for number in range(3)]
    assert tables[0] == tables[1] == tables[2] and len(tables[0]) == 3
    step = drive.step()
    assert len(step.copies) == 2, "the last of three writes where it is"
    drive.run()
    assert len(drive.log.of("fork")) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("policy", "dynamic"), ("max_batch", 0), ("max_batch", 2.0), ("chunk", 0), ("chunk", True)],
)
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        Scheduler(BlockManager(4, 4), **{name: value})


def test_only_continuous_batching_cuts_prompts():
    for policy in ("static", "shrinking"):
        with pytest.raises(ValueError, match="chunk is 8"):
            Scheduler(BlockManager(4, 4), policy=policy, chunk=8)


def test_no_torch_needed():
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import helpers.serve.scheduler, helpers.serve.events, helpers.serve.detokenizer\n"
        "import helpers.serve.checks, helpers.serve.stream\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
