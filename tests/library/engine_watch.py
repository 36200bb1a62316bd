"""What an engine holds after each step, to hold replays against."""

from __future__ import annotations

from helpers.serve.engine import Engine


def snapshots(monkeypatch):
    """Note, after each step of any engine, what it holds."""
    seen = {}
    step = Engine.step

    def noting(engine):
        pieces = step(engine)
        scheduler, blocks = engine.scheduler, engine.blocks
        seen[engine.log.step] = {
            "tables": {r.number: blocks.table(r.number) for r in scheduler.running},
            "computed": {r.number: r.computed for r in scheduler.running},
            "kept": set(blocks.kept_blocks),
            "free": blocks.free_blocks,
            "waiting": len(scheduler.waiting),
            "ids": {r.number: list(r.ids) for r in scheduler.running},
        }
        return pieces

    monkeypatch.setattr(Engine, "step", noting)
    return seen


def as_shown(held, letters, count, size):
    """The blocks panel's state, from what an engine holds."""
    owners, filled = {}, {}
    for number in sorted(held["tables"]):
        for place, block in enumerate(held["tables"][number]):
            owners[block] = owners.get(block, "") + letters[number]
            here = min(size, max(0, held["computed"][number] - place * size))
            filled[block] = max(filled.get(block, 0), here)
    return [
        (owners[b], filled[b], False) if b in owners else ("kept" if b in held["kept"] else None)
        for b in range(count)
    ]
