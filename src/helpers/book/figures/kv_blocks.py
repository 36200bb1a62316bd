"""The replay of chapter 6: blocks of the cache allocated, shared, copied, kept, evicted and freed.

The engine of :mod:`helpers.serve` runs for real; what is drawn is rebuilt from its event log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

from helpers.book.figures.engine_story import (
    Arrival,
    Event,
    Story,
    counted,
    in_blocks,
    joined,
    record_run,
)
from helpers.book.replay import Blocks, Facts, Lanes, Replay, Run, replay

__all__ = ["SCENARIOS", "Scenario", "block_frames", "blocks_replay"]

#: tokens in a block: few, so that blocks fill up while one looks on
BLOCK_SIZE = 4


class Scenario(NamedTuple):
    """Requests, and the blocks that they must do with."""

    blocks: int
    arrivals: tuple[Arrival, ...]


def _tokens(first: int, count: int) -> tuple[int, ...]:
    return tuple(range(first, first + count))


_SYSTEM = _tokens(1, 12)  # a system prompt of three full blocks
#: by the name under which a reader chooses one; prompts are tokens, so that any model will do
SCENARIOS = {
    "a common beginning is shared": Scenario(
        12,
        (
            Arrival(0, _SYSTEM + _tokens(20, 3), 7),
            Arrival(1, _SYSTEM + _tokens(30, 5), 4),
            Arrival(2, _tokens(40, 6), 4),
            Arrival(9, _SYSTEM + _tokens(50, 2), 3),
        ),
    ),
    "four answers to one prompt": Scenario(12, (Arrival(0, _tokens(1, 10), 6, samples=4),)),
    "too few blocks": Scenario(
        8,
        (
            Arrival(0, _tokens(60, 9), 2),
            Arrival(1, _tokens(1, 10), 9),
            Arrival(2, _tokens(20, 9), 8),
            Arrival(3, _tokens(40, 5), 5),
        ),
    ),
}


class _BlockStory(Story):
    """Says of every block why it goes to whom."""

    had: tuple[str, ...] = ()  # who had the kept blocks that were found last

    def apply(self, events: Iterable[Event]) -> None:
        """See :class:`Story`."""
        for event in events:
            if event["kind"] == "prefix_hit":
                self.had = tuple(self.kept[b] for b in event["blocks"] if b in self.kept)
            super().apply([event])

    def states(self, at: int, spoke: Set[int]) -> dict[str, Any]:
        """See :class:`Story`."""
        state, held = self.state, len(self.state.references)
        facts = [
            at,
            len(state.waiting),
            held,
            len(self.kept),
            self.count - held - len(self.kept),
            sum(map(len, state.tables.values())),
        ]
        tables = [
            " → ".join(map(str, state.tables.get(number, ()))) or "none"
            for number in range(len(self.letters))
        ]
        return {"facts": facts, "blocks": self.blocks(), "lanes": at, "tables": tables}

    def owners(self, blocks: Iterable[int], but: int) -> list[str]:
        """The letters of all other requests whose tables hold any of these blocks."""
        wanted = set(blocks)
        tables = sorted(self.state.tables.items())
        return [self.letters[n] for n, table in tables if n != but and wanted & set(table)]

    def admitted(self, number: int, events: Sequence[Event]) -> str:
        """See :class:`Story`; who had the blocks that were found is told too."""
        says = super().admitted(number, events)
        found = [b for e in events if e["kind"] == "prefix_hit" for b in e["blocks"]]
        if not found:
            return says
        name, others = self.letters[number], self.owners(found, number)
        if others:
            return f"{says} {joined(others)} and {name} share what they begin with."
        if set(self.had) == {name}:
            return f"{says} {name} computed them itself, and the contents were kept."
        return f"{says} Whoever computed them is gone, but the contents were kept."

    def preempted(self, number: int, wanting: int, events: Sequence[Event]) -> str:
        """See :class:`Story`; what is kept of it is told too."""
        says = super().preempted(number, wanting, events)
        kept = next(e for e in events if e["kind"] == "free")["kept"]
        return f"{says} The contents of {in_blocks(kept)} stay for now." if kept else says

    def grow(self, step: int, number: int, events: Sequence[Event]) -> list[Event]:
        """See :class:`Story`; every block is a frame of its own."""
        name, owners = self.letters[number], []
        for event in events:
            if event["kind"] == "cow":
                owners = self.owners([event["source"]], number)
        self.apply(events)
        evicted = [event["block"] for event in events if event["kind"] == "evict"]
        for event in events:
            if event["kind"] == "allocate":
                block = event["blocks"][0]
                says = f"{name}'s last block is full, so its next token opens block {block}."
            elif event["kind"] == "cow":
                says = self.copied(name, event, owners)
            else:
                continue
            if evicted:
                says += " No block is empty, so its old contents, unused for longest, are given up."
            self.frame(says, step - 1)
        return []

    def copied(self, name: str, event: Event, owners: Sequence[str]) -> str:
        """Say why a shared block is copied."""
        source, block = event["source"], event["block"]
        hold = "holds" if len(owners) == 1 else "hold"
        says = (
            f"{name}'s next token belongs in block {source}, but {joined(owners)} {hold} that "
            f"too. So {name} gets a copy, block {block}, and writes there."
        )
        if len(owners) == 1:
            says += f" {owners[0]} is now alone with block {source} and may write to it."
        return says

    def finished(self, event: Event, events: Sequence[Event]) -> str:
        """See :class:`Story`; each block is still held, kept, or empty."""
        number = event["request"]
        freed = next(e for e in events if e["kind"] == "free")
        kept, held = freed["kept"], [b for b in freed["blocks"] if b in self.state.references]
        empty = [b for b in freed["blocks"] if b not in held and b not in kept]
        parts = []
        if held:
            others = self.owners(held, number)
            need = "needs" if len(others) == 1 else "need"
            parts.append(f"{joined(others)} still {need} {in_blocks(held)}")
        if kept:
            parts.append(f"the contents of {in_blocks(kept)} are kept for whoever begins alike")
        if empty:
            parts.append(f"{in_blocks(empty)} {'is' if len(empty) == 1 else 'are'} empty")
        made = counted(event["generated"], "token")
        return f"{self.letters[number]} has its {made} and leaves: {'; '.join(parts)}."


def block_frames(events: Iterable[Event], requests: int, *, blocks: int, block_size: int) -> Run:
    """Turn an engine's log into a run that shows its blocks.

    Parameters
    ----------
    events : iterable of dict
        What :class:`helpers.serve.events.EventLog` holds.
    requests : int
        How many there are, each sample counted as one.
    blocks, block_size : int
        The engine's cache.

    Raises
    ------
    ValueError
        If there is no request, or more than 26.
    """
    story = _BlockStory(requests, blocks, block_size)
    story.tell(events)
    shown = [block for frame in story.frames for block in frame.states["blocks"] if block]
    panels = {
        "facts": Facts(
            "Cache", ["Step", "Waiting", "Blocks held", "kept", "empty", "Entries in all tables"]
        ),
        "blocks": Blocks(
            f"The KV cache: {blocks} blocks of {block_size} tokens",
            count=blocks, size=block_size, owners=story.letters,
            kept=any(block.kept for block in shown),
            shared=any(len(block.owners) > 1 for block in shown),
        ),
        "lanes": Lanes(
            "Requests, over the engine's steps",
            names=list(story.letters), length=story.state.step, spans=story.spans(),
            kinds=story.kinds(),
        ),
        "tables": Facts("Block tables", [f"{letter}'s table" for letter in story.letters]),
    }  # fmt: skip
    return Run(panels, story.frames)


def blocks_replay(
    model: Any,
    *,
    name: str = "blocks",
    scenarios: Mapping[str, Scenario] = SCENARIOS,
    block_size: int = BLOCK_SIZE,
) -> Replay:
    """Run the engine on each scenario and replay what becomes of the blocks.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
        In float64 if the run must be the same on every machine. What it says does not matter: the
        lengths of prompts and answers decide about the blocks.
    name : str
        Of the replay, on its page.
    scenarios : mapping of str to Scenario
        By the name under which the reader chooses one.
    block_size : int
        Tokens in a block.
    """
    runs = {}
    for title, scenario in scenarios.items():
        events, ids = record_run(
            model, None, scenario.arrivals,
            blocks=scenario.blocks, block_size=block_size, chunk=None,
        )  # fmt: skip
        runs[title] = block_frames(events, len(ids), blocks=scenario.blocks, block_size=block_size)
    return replay(
        name,
        "Blocks of a paged cache: shared, copied, kept, given up",
        "The blocks of the cache with their owners, lanes of the requests over the engine's "
        "steps, and each request's block table.",
        runs,
        caption=(
            "Recorded runs of the book's engine. Compare *blocks held* with the *entries in all "
            "tables*: the difference is what sharing saves."
        ),
    )
