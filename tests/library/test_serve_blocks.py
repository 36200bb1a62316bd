"""The block manager against a model that only counts: no leak, no writer in a shared block."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from helpers.serve.blocks import ROOT, BlockManager, OutOfBlocks, UnknownSequence

# --- the model ---------------------------------------------------------------------------------


class Replay:
    """Tables and kept blocks rebuilt from the events alone."""

    def __init__(self):
        self.tables: dict[object, list[int]] = {}
        self.kept: set[int] = set()

    def __call__(self, kind, sequence, **fields):
        table = self.tables.get(sequence)
        if kind == "prefix_hit":
            assert sequence not in self.tables
            self.tables[sequence] = list(fields["blocks"])
            self.kept -= set(fields["blocks"])
        elif kind == "allocate":
            assert not self.kept & set(fields["blocks"]), "a kept block is evicted before"
            self.tables.setdefault(sequence, []).extend(fields["blocks"])
        elif kind == "share":
            assert fields["blocks"] == self.tables[fields["parent"]]
            self.tables[sequence] = list(fields["blocks"])
        elif kind == "cow":
            assert table[-1] == fields["source"]
            table[-1] = fields["block"]
        elif kind == "truncate":
            assert table[len(table) - len(fields["blocks"]) :] == fields["blocks"]
            del table[len(table) - len(fields["blocks"]) :]
            self.kept |= set(fields["kept"])
        elif kind == "free":
            assert self.tables.pop(sequence) == fields["blocks"], "the events tell another table"
            self.kept |= set(fields["kept"])
        elif kind == "evict":
            assert sequence is None
            self.kept.remove(fields["block"])
        else:
            raise AssertionError(f"unknown event {kind}")


class Machine(RuleBasedStateMachine):
    """Random operations on a manager, beside plain lists of what must be true.

    The model knows no hash: it keeps, for each block, the whole text up to that block's end as it
    was written there, token by token through the tables, as a model would write keys and values.
    """

    manager_type = BlockManager

    @initialize(
        blocks=st.integers(1, 9), block_size=st.integers(1, 4), prefix_caching=st.booleans()
    )
    def start(self, blocks, block_size, prefix_caching):
        self.replay = Replay()
        self.manager = self.manager_type(blocks, block_size, prefix_caching, self.replay)
        self.size = block_size
        self.caching = prefix_caching
        self.texts: dict[int, list[int]] = {}
        #: slot -> the text of which its token is the last; what keys and values depend on
        self.slots: dict[int, tuple[int, ...]] = {}
        self.names = 0

    # --- what a cache would do ---

    def write(self, sequence, start):
        """Compute tokens from ``start`` on: nobody else may hold the blocks they go to."""
        text, table = self.texts[sequence], self.manager.table(sequence)
        for place in range(start, len(text)):
            block = table[place // self.size]
            holders = [s for s in self.texts if block in self.manager.table(s)]
            assert holders == [sequence], f"{sequence} writes to a block of {holders}"
            self.slots[block * self.size + place % self.size] = tuple(text[: place + 1])

    def copy(self, pairs):
        for source, destination in pairs:
            for place in range(self.size):
                held = self.slots.get(source * self.size + place)
                self.slots[destination * self.size + place] = held

    def new_name(self):
        self.names += 1
        return self.names

    def pick(self, number):
        return sorted(self.texts)[number % len(self.texts)]

    def begin(self, text):
        """Allocate and compute a new sequence, if there is room; its hits, or None."""
        name, manager = self.new_name(), self.manager
        before = self.snapshot()
        room, surely = manager.can_allocate(text), manager.can_allocate(len(text))
        try:
            hits = manager.allocate(name, text)
        except OutOfBlocks:
            assert not room
            assert self.snapshot() == before, "a refused call changed something"
            return None
        assert room, "there is room, but it says no"
        assert not surely or room
        assert hits % self.size == 0 and hits < len(text)
        assert self.caching or hits == 0
        table = manager.table(name)
        for place in range(hits):
            slot = table[place // self.size] * self.size + place % self.size
            assert self.slots[slot] == tuple(text[: place + 1]), "a wrong prefix was found"
        self.texts[name] = list(text)
        self.write(name, hits)
        return hits

    def end(self, name):
        self.manager.free(name)
        del self.texts[name]

    # --- rules ---

    @rule(text=st.lists(st.integers(0, 1), min_size=1, max_size=12))
    def allocate(self, text):
        self.begin(text)

    @rule(text=st.lists(st.integers(0, 1), min_size=2, max_size=9))
    def ask_again(self, text):
        """What was just computed and freed is found, all of it."""
        if self.begin(text) is None:
            return
        self.end(self.names)
        hits = self.begin(text)
        assert not self.caching or hits == (len(text) - 1) // self.size * self.size, (
            "a prefix was not found"
        )

    @precondition(lambda self: self.texts)
    @rule(number=st.integers(0, 50), token=st.integers(0, 1))
    def append(self, number, token):
        name, manager = self.pick(number), self.manager
        before = self.snapshot()
        if not manager.can_append(name):
            assert manager.free_blocks == 0
            with pytest.raises(OutOfBlocks, match="none of"):
                manager.append(name, token)
            assert self.snapshot() == before, "a refused call changed something"
            return
        self.copy(manager.append(name, token))
        self.texts[name].append(token)
        self.write(name, len(self.texts[name]) - 1)

    @precondition(lambda self: self.texts)
    @rule(number=st.integers(0, 50))
    def fork(self, number):
        parent, child = self.pick(number), self.new_name()
        self.manager.fork(parent, child)
        self.texts[child] = list(self.texts[parent])

    @precondition(lambda self: self.texts)
    @rule(number=st.integers(0, 50), length=st.integers(1, 50))
    def truncate(self, number, length):
        name = self.pick(number)
        length = 1 + length % len(self.texts[name])
        self.manager.truncate(name, length)
        del self.texts[name][length:]

    @precondition(lambda self: self.texts)
    @rule(number=st.integers(0, 50))
    def free(self, number):
        name = self.pick(number)
        self.end(name)
        with pytest.raises(UnknownSequence, match="never allocated, or is freed"):
            self.manager.free(name)

    @precondition(lambda self: self.texts)
    @rule(number=st.integers(0, 50), back=st.integers(1, 3))
    def roll_back(self, number, back):
        """Guesses are taken back and others written in their place; then the old text comes."""
        name = self.pick(number)
        text = self.texts[name]
        old = list(text)
        if len(old) <= back:
            return
        self.manager.truncate(name, len(old) - back)
        del text[len(old) - back :]
        for token in old[len(old) - back :]:
            if not self.manager.can_append(name):
                return
            self.copy(self.manager.append(name, 1 - token))
            text.append(1 - token)
            self.write(name, len(text) - 1)
        self.begin([*old, 0])

    @rule(text=st.lists(st.integers(0, 1), min_size=1, max_size=9), computed=st.integers(0, 9))
    def give_up(self, text, computed):
        """A request is dropped after some of its tokens were computed; then it comes again."""
        name = self.new_name()
        if not self.manager.can_allocate(len(text)):
            return
        hits = self.manager.allocate(name, text)
        computed = max(hits, min(computed, len(text)))
        table = self.manager.table(name)
        for place in range(hits, len(text)):
            slot = table[place // self.size] * self.size + place % self.size
            self.slots[slot] = tuple(text[: place + 1]) if place < computed else None
        self.manager.free(name, computed=computed)
        self.begin(text)

    # --- what holds at any time ---

    def snapshot(self):
        manager = self.manager
        return (
            {name: manager.table(name) for name in manager.sequences},
            manager.kept_blocks,
            manager.free_blocks,
            [manager.reference_count(block) for block in range(manager.blocks)],
        )

    @invariant()
    def counts_are_true(self):
        manager = self.manager
        assert sorted(manager.sequences) == sorted(self.texts)
        tables = [manager.table(name) for name in self.texts]
        for block in range(manager.blocks):
            held = sum(table.count(block) for table in tables)
            assert manager.reference_count(block) == held, f"block {block} counts another number"
        used = {block for table in tables for block in table}
        assert manager.free_blocks == manager.blocks - len(used), (
            "a block leaked, or is given twice"
        )
        assert not used & set(manager.kept_blocks)

    @invariant()
    def every_sequence_reads_its_own_text(self):
        for name, text in self.texts.items():
            table = self.manager.table(name)
            assert self.manager.tokens(name) == text
            assert len(table) == -(-len(text) // self.size)
            assert len(set(table)) == len(table)
            for place in range(len(text)):
                slot = table[place // self.size] * self.size + place % self.size
                assert self.slots[slot] == tuple(text[: place + 1])

    @invariant()
    def events_replay_to_the_same_state(self):
        state = self.snapshot()
        assert self.replay.tables == state[0], "the events tell other tables"
        assert self.replay.kept == set(state[1]), "the events tell other kept blocks"

    def teardown(self):
        """When all have gone, all blocks are free: nothing leaks."""
        if not hasattr(self, "manager"):
            return
        for name in self.manager.sequences:
            self.manager.free(name)
        assert self.manager.free_blocks == self.manager.blocks, "a block leaked"
        assert not self.replay.tables


MANY = settings(
    max_examples=120, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)


def test_random_operations():
    run_state_machine_as_test(Machine, settings=MANY)


# --- planted defects: the same machine finds each ------------------------------------------------


class LeaksOnFree(BlockManager):
    """Does not give back the last block."""

    def free(self, sequence, computed=None):
        if sequence in self._sequences:
            self._references[self._sequences[sequence].table[-1]] += 1
        super().free(sequence, computed)


class FreesTwice(BlockManager):
    """Puts a shared block among the free ones while another table still holds it."""

    def _release(self, blocks):
        blocks = list(blocks)
        for block in blocks:
            self._references[block] = min(self._references[block], 1)
        return super()._release(blocks)


class ForgetsCopyOnWrite(BlockManager):
    """Appends to a shared block."""

    def _is_shared(self, block):
        return False


class HashesWithoutParent(BlockManager):
    """Takes equal tokens for an equal prefix."""

    def hash_block(self, parent, tokens):
        return super().hash_block(ROOT, tokens)


class HashesTheSum(BlockManager):
    """A weak hash: different tokens, one name."""

    def hash_block(self, parent, tokens):
        return super().hash_block(parent, [sum(tokens)])


class KeepsStaleNames(BlockManager):
    """A block that is cut and written over can still be found by what it held."""

    def _forget(self, block):
        if self._references[block] == 0:  # evicted; else it is about to be written over
            super()._forget(block)


class NeverFinds(BlockManager):
    """Keeps blocks but finds none."""

    def _find(self, tokens):
        return []


class FindsWhatWasNotComputed(BlockManager):
    """Ignores that a sequence is freed before all of it is computed."""

    def free(self, sequence, computed=None):
        super().free(sequence)


class TellsNothingOfEviction(BlockManager):
    """An incomplete event stream."""

    def _tell(self, kind, sequence, **fields):
        if kind != "evict":
            super()._tell(kind, sequence, **fields)


class HoldsBeforeItChecks(BlockManager):
    """Takes blocks, then finds that there are too few."""

    def allocate(self, sequence, token_ids):
        if not self.can_allocate(len(token_ids)) and self._empty:
            self._references[self._empty.pop()] += 1
        return super().allocate(sequence, token_ids)


#: each with what the machine says when it finds it
DEFECTS = {
    LeaksOnFree: "a block leaked",
    FreesTwice: "writes to a block of|given twice|counts another",
    ForgetsCopyOnWrite: "writes to a block of",
    HashesWithoutParent: "a wrong prefix was found",
    HashesTheSum: "a wrong prefix was found",
    KeepsStaleNames: "a wrong prefix was found",
    NeverFinds: "a prefix was not found",
    FindsWhatWasNotComputed: "a wrong prefix was found",
    TellsNothingOfEviction: "evicted before|events tell",
    HoldsBeforeItChecks: "a block leaked|refused call",
}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_the_machine_finds_a_planted_defect(defect):
    broken = type("Broken", (Machine,), {"manager_type": defect})
    search = settings(
        MANY, max_examples=600, database=None, report_multiple_bugs=False, phases=[Phase.generate]
    )
    with pytest.raises(AssertionError, match=DEFECTS[defect]):
        run_state_machine_as_test(broken, settings=search)


# --- by hand -------------------------------------------------------------------------------------


def test_a_prefix_is_shared_by_whole_blocks():
    manager = BlockManager(12, 2)
    assert manager.allocate("a", [1, 2, 3, 4, 5]) == 0
    assert manager.allocate("b", [1, 2, 3, 9, 5]) == 2  # [3, 9] is another block
    assert manager.allocate("c", [1, 2, 3, 4]) == 2  # the last token is left to compute
    assert manager.allocate("d", [3, 4, 1, 2, 7]) == 0  # [3, 4] begins no sequence
    assert manager.table("b")[0] == manager.table("c")[0] == manager.table("a")[0]
    assert manager.reference_count(manager.table("a")[0]) == 3


def test_generated_tokens_can_be_found_too():
    manager = BlockManager(8, 2)
    manager.allocate("a", [1])
    for token in (2, 3, 4):
        assert manager.append("a", token) == []
    manager.free("a")
    assert manager.allocate("b", [1, 2, 3, 4, 5]) == 4


def test_least_recently_used_goes_first_and_an_end_before_its_beginning():
    manager = BlockManager(6, 1)
    manager.allocate("a", [1, 2, 3])
    manager.allocate("b", [7, 8, 9])
    manager.free("a")  # blocks 0, 1, 2
    manager.free("b")  # blocks 3, 4, 5
    assert manager.kept_blocks == [2, 1, 0, 5, 4, 3]
    assert manager.allocate("c", [1, 2, 9]) == 2  # uses a's first two again, evicts block 2
    assert manager.table("c") == [0, 1, 2]
    manager.free("c")
    assert manager.kept_blocks == [5, 4, 3, 2, 1, 0]
    assert manager.allocate("d", [7, 8, 9, 9]) == 3  # c's were used later than b's
    assert manager.table("d") == [3, 4, 5, 2]


def test_both_branches_of_a_fork_write_to_blocks_of_their_own():
    manager = BlockManager(6, 4)
    manager.allocate("a", [1, 2, 3, 4, 5])
    manager.fork("a", "b")
    manager.fork("a", "c")
    assert manager.append("a", 6) == [(1, 2)]
    assert manager.append("b", 7) == [(1, 3)]
    assert manager.append("c", 8) == []  # the last holder writes in place
    assert [manager.table(name) for name in "abc"] == [[0, 2], [0, 3], [0, 1]]


def test_fork_costs_nothing_until_somebody_writes():
    manager = BlockManager(2, 4)
    manager.allocate("a", [1, 2, 3, 4, 5])
    manager.fork("a", "b")
    assert manager.free_blocks == 0 and not manager.can_append("b")
    with pytest.raises(OutOfBlocks, match="needs a block for token 5; none of 2 is free"):
        manager.append("b", 6)
    manager.free("a")
    assert manager.append("b", 6) == []


def test_truncated_tokens_can_be_appended_anew():
    manager = BlockManager(8, 2)
    manager.allocate("a", [1, 2, 3, 4, 5])
    manager.truncate("a", 3)
    assert manager.tokens("a") == [1, 2, 3] and manager.free_blocks == 6
    manager.append("a", 9)
    assert manager.allocate("b", [1, 2, 3, 4, 0]) == 2  # [3, 4] is written over
    assert manager.allocate("c", [1, 2, 3, 9, 0]) == 4


def test_without_prefix_caching_nothing_is_shared_or_kept():
    manager = BlockManager(4, 2, prefix_caching=False)
    manager.allocate("a", [1, 2, 3])
    assert manager.allocate("b", [1, 2, 3]) == 0
    manager.free("a")
    assert manager.kept_blocks == [] and manager.free_blocks == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.free("x"), UnknownSequence, "sequence 'x' holds no blocks"),
        (lambda m: m.table("x"), UnknownSequence, "sequence 'x' holds no blocks"),
        (lambda m: m.append("x", 1), UnknownSequence, "sequence 'x' holds no blocks"),
        (lambda m: m.fork("x", "y"), UnknownSequence, "sequence 'x' holds no blocks"),
        (lambda m: m.truncate("x", 1), UnknownSequence, "sequence 'x' holds no blocks"),
        (lambda m: m.fork("a", "a"), ValueError, "sequence 'a' holds blocks already"),
        (lambda m: m.allocate("a", [1]), ValueError, "sequence 'a' holds blocks already"),
        (lambda m: m.allocate("x", []), ValueError, "token_ids of sequence 'x' is empty"),
        (lambda m: m.allocate("x", [0] * 9), OutOfBlocks, "needs 5 more blocks of 2 .* 2 of 4"),
        (lambda m: m.truncate("a", 4), ValueError, "length is 4; .* must be 1 to 3"),
        (lambda m: m.truncate("a", 0), ValueError, "length is 0; .* must be 1 to 3"),
        (lambda m: m.reference_count(4), ValueError, "block is 4; blocks are 0 to 3"),
        (lambda m: BlockManager(0, 2), ValueError, "blocks is 0; it must be a whole number"),
        (lambda m: BlockManager(2, 1.5), ValueError, "block_size is 1.5; it must be a whole"),
    ],
)
def test_errors_name_what_is_wrong_and_change_nothing(call, error, message):
    manager = BlockManager(4, 2)
    manager.allocate("a", [1, 2, 3])
    with pytest.raises(error, match=message):
        call(manager)
    assert manager.table("a") == [0, 1] and manager.tokens("a") == [1, 2, 3]
    assert manager.free_blocks == 2 and manager.sequences == ["a"]


def test_a_cut_block_that_was_never_computed_is_no_prefix():
    for cut in (6, 4):
        manager = BlockManager(8, 4)
        manager.allocate("a", list(range(8)))
        manager.truncate("a", cut, computed=4)
        manager.free("a", computed=4)
        assert manager.allocate("b", [*range(8), 9]) == 4
    manager = BlockManager(8, 4)
    manager.allocate("a", list(range(8)))
    manager.truncate("a", 6)
    manager.free("a", computed=4)
    assert manager.allocate("b", [*range(8), 9]) == 4


def test_room_counts_what_is_found():
    manager = BlockManager(4, 2)
    manager.allocate("a", [1, 2, 3, 4])
    assert not manager.can_allocate(5) and manager.can_allocate([1, 2, 3, 4, 5, 6, 7])
    assert not manager.can_allocate([1, 2, 3, 4, 5, 6, 7], reserve=1)
    assert manager.can_allocate([1, 2, 3, 4, 5, 6], reserve=1)
    manager.free("a")  # kept blocks that are found are no longer free for the rest
    assert manager.can_allocate([1, 2, 3, 4, 5, 6, 7, 8])
    assert not manager.can_allocate([1, 2, 3, 4, 5, 6, 7, 8, 9])
