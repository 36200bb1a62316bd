"""Replays of every sort, for the tests: all panels in one, and a choice of two schedules."""

from __future__ import annotations

from helpers.book.replay import (
    Block,
    Blocks,
    Facts,
    Frame,
    Lanes,
    Replay,
    Run,
    Span,
    Token,
    Tokens,
    replay,
)

_WORDS = ("def", " main", "(", "):", "\n    ", "return", " <b>", "&amp;", ' "x"', "\n")


def _all_panels() -> Replay:
    """Ten tokens into blocks of four; a second request shares, a block is kept, one is rejected."""
    frames = []
    for count in range(1, len(_WORDS) + 1):
        blocks: list[Block | None] = [None] * 6
        for i in range(0, count, 4):
            owners = "AB" if i == 0 and 5 <= count < 8 else "A"
            blocks[5 - i // 4] = Block(owners, min(4, count - i))
        if count > 7:
            blocks[0] = Block("F", 4, kept=True)
        if count == 6:
            blocks[1] = Block("ABCDEF", 4)
        kinds = ["hit"] * min(count, 2) + ["held"] * max(0, count - 3) + ["made now"]
        tokens = [Token(w, k) for w, k in zip(_WORDS[:count], kinds, strict=False)]
        if 3 < count < 8:  # a draft that fails: the strip gets shorter, then longer
            tokens += [Token(" no", "drafted"), Token(" way", "drafted rejected")]
        tokens += [Token("?", "waiting")]
        says = f"Token {count} is {_WORDS[count - 1]!r} & takes < 1 block. " * (1 + (count == 4))
        states = {
            "facts": [count, f"{6 - blocks.count(None)} of 6"],
            "lanes": count,
            "blocks": blocks,
            "tokens": tokens,
        }
        frames.append(Frame(says.strip(), states))
    spans = [
        Span(0, 0, 1, "prefill", "P"),
        Span(0, 1, 10, "decode"),
        Span(1, 4, 5, "wait"),
        Span(1, 5, 7.5, "out"),
        Span(2, 0, 10, "idle"),
    ]
    kinds = {
        "wait": ("line", "waiting"),
        "prefill": ("solid", "prefill"),
        "decode": ("stripes", "decode"),
        "out": ("dashes", "preempted"),
        "idle": ("dots", "idle"),
    }
    names = {"hit": "found", "held": "in the cache", "made": "generated", "drafted": "drafted"}
    panels = {
        "facts": Facts("Counts", ["Tokens", "Blocks"]),
        "lanes": Lanes("Requests", names=["A", "B", "C"], length=10, spans=spans, kinds=kinds),
        "blocks": Blocks("Cache", count=6, size=4, owners="ABCDEF", kept=True, shared=True),
        "tokens": Tokens("A's tokens", names),
    }
    caption = "Every panel, *once*."
    return replay("all-panels", "Every panel <once>", "Four panels.", Run(panels, frames),
                  caption=caption, pause_ms=200)  # fmt: skip


def _pipeline(stages: int, batches: int) -> Run:
    """All forwards, then all backwards, as GPipe orders them."""
    spans = []
    forward = stages + batches - 1
    for stage in range(stages):
        for batch in range(batches):
            spans.append(Span(stage, stage + batch, stage + batch + 1, "f", str(batch)))
            start = forward + 2 * (stages - 1 - stage + batch)
            spans.append(Span(stage, start, start + 2, "b", str(batch)))
    length = max(span.stop for span in spans)
    kinds = {"f": ("solid", "forward"), "b": ("outline", "backward")}
    names = [str(stage) for stage in range(stages)]
    lanes = Lanes("Stages", names=names, length=length, spans=spans, kinds=kinds, least=18)
    frames = [
        Frame(f"At {at}, {sum(s.start <= at < s.stop for s in spans)} stages work.",
              {"lanes": at})
        for at in range(length + 1)
    ]  # fmt: skip
    return Run({"lanes": lanes}, frames)


all_panels = _all_panels()
pipeline = replay(
    "pipeline",
    "A pipeline fills and drains",
    "A lane for each stage with the micro-batches it works on.",
    {"2 stages, 2 micro-batches": _pipeline(2, 2), "3 stages, 6": _pipeline(3, 6)},
    counted="Time",
    pause_ms=200,
)
SAMPLES = {made.name: made for made in (all_panels, pipeline)}
