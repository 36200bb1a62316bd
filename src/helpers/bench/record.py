"""Make the recorded runs anew: ``python -m helpers.bench.record [PART]``.

Run it on a quiet machine: close everything else first. Nothing of a part is written until all
of it is measured, and each file is replaced whole. ``caches`` measures no time: it takes an hour,
does not mind a busy machine, and goes on where it was if it was stopped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from helpers.bench import operations
from helpers.bench.probe import probe
from helpers.bench.recorded import FOLDER, load
from helpers.bench.storage import cache_folder, write_json

COMMAND = "python -m helpers.bench.record"


#: how often to try for a run in which the machine holds still
ATTEMPTS = 4

#: held-out documents whose beginnings the engine goes on with, and tokens of each beginning
PROMPTS, PROMPT_TOKENS = 8, 64


def busy_share() -> float | None:
    """Load of the machine over the last minute as a share of its cores (None if unknown)."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (OSError, AttributeError):
        return None


def machine(quick: bool) -> dict[str, Any]:
    """Card of this machine and what the operations of the Roofline chapter take on it.

    Raises
    ------
    RuntimeError
        If the machine does not hold still.
    """
    samples, seconds_each, rounds = (9, 0.4, 1) if quick else (12, 0.9, 3)
    for attempt in range(1, ATTEMPTS + 1):
        # half of the operations' samples before the card and half after: a machine that
        # changes slowly changes for both alike
        halves = []
        for half in ("before", "after"):
            if half == "after":
                card = probe(quick=quick)
                print(card.summary())
            halves.append(
                operations.measure(
                    samples=samples,
                    seconds_each=seconds_each,
                    rounds=rounds,
                    progress=lambda name: print(f"  {name}"),
                    command=COMMAND,
                )
            )
        first, second = halves
        run = second.model_copy(
            update={
                "seconds_spent": round(first.seconds_spent + second.seconds_spent, 1),
                "measurements": {
                    name: operations.together(first.measurements[name], measured)
                    for name, measured in second.measurements.items()
                },
            }
        )
        comparison = operations.compare(card, run)
        if comparison.steady:
            break
        # what built the card does not repeat: card and run are not of one machine state.
        # How well the predictions did has no say in this.
        print(f"attempt {attempt} of {ATTEMPTS}: {comparison.warning()}")
    else:
        raise RuntimeError("The machine does not hold still; nothing was written.")
    play = operations.measure(
        operations.playground_operations(),
        samples=7,
        seconds_each=seconds_each / 3,
        command=COMMAND,
    )
    card = card.model_copy(update={"command": COMMAND})
    print(operations.compare(card, run))
    return {
        "reference-cpu-card": card,
        "reference-cpu-operations": run,
        "reference-cpu-playground": play,
    }


def engine(quick: bool) -> dict[str, Any]:
    """What the ideas of the book's engine are worth, with the book's models on this machine.

    Raises
    ------
    FileNotFoundError, ValueError
        If a checkpoint is missing or damaged.
    """
    from helpers.bench import serving, speculation
    from helpers.lm import loading, text, tokenizer

    target = loading.load("target")
    samples = 2 if quick else 5
    served = serving.measure(target, samples=samples, progress=print, command=COMMAND)
    documents = sorted(text.corpus().held_out, key=lambda document: document.name)
    beginnings = tokenizer.load().encode_many([document.text for document in documents])
    long_enough = [tokens for tokens in beginnings if len(tokens) >= 4 * PROMPT_TOKENS]
    guessed = speculation.measure(
        target,
        {name: loading.load(name) for name in ("draft", "stranger")},
        [tokens[:PROMPT_TOKENS] for tokens in long_enough[:PROMPTS]],
        draft_tokens=(2, 3, 4, 6),
        samples=samples,
        progress=print,
        command=COMMAND,
    )
    return {"reference-cpu-serving": served, "reference-cpu-speculation": guessed}


def lengths(quick: bool) -> dict[str, Any]:
    """How long the docstrings of this Python are; no timing, so ``quick`` changes nothing."""
    from helpers.bench.lengths import NAME, measure

    return {NAME: measure()}


def cache(quick: bool) -> dict[str, Any]:
    """What a cache buys, token by token, with the book's target on this machine.

    Raises
    ------
    FileNotFoundError, ValueError
        If a checkpoint is missing or damaged.
    """
    from helpers.bench import cache_steps
    from helpers.bench.cache_bounds import TokenPrediction, as_record
    from helpers.bench.cache_compare import caution
    from helpers.lm import loading

    run = cache_steps.measure(
        loading.load("target"),
        rounds=3 if quick else 7,
        answer_tokens=128 if quick else 512,
        answer_samples=1 if quick else 3,
        play_samples=1 if quick else 3,
        progress=print,
        command=f"{COMMAND} cache",
    )
    counts = TokenPrediction(
        as_record(run.model), load("reference-cpu-card"), run.calls_cached, run.calls_uncached
    )
    print(caution(run, counts) or "The machine is as it was when its card was measured.")
    return {"reference-cpu-cache": run}


def caches(quick: bool) -> dict[str, Any]:
    """What smaller caches cost the book's target in quality, with pooled heads trained further.

    Raises
    ------
    FileNotFoundError, ValueError
        If a checkpoint is missing or damaged, or what an earlier run left is of another model or
        text.
    """
    from helpers.bench import smaller
    from helpers.lm import loading

    home = cache_folder() or Path(tempfile.gettempdir())
    folder = home / f"{smaller.RECORDED}{'-quick' if quick else ''}"
    run = smaller.measure(
        loading.load("target"),
        smaller.LIVE if quick else smaller.WHOLE,
        folder=folder,
        progress=lambda line: print(line, flush=True),
        command=f"{COMMAND} caches",
    )
    shutil.rmtree(folder)  # the next recording begins anew
    return {smaller.RECORDED: run}


PARTS = {
    "machine": machine,
    "engine": engine,
    "lengths": lengths,
    "cache": cache,
    "caches": caches,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure everything and write the files.

    Parameters
    ----------
    arguments : list of str, optional
        ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0, or 1 with a message.
    """
    parser = argparse.ArgumentParser(
        prog="moving-bytes record",
        description="Make the recorded runs that ship with the package anew (a quarter hour).",
    )
    parser.add_argument("part", nargs="?", choices=PARTS, help="one part only (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="measure, show, write nothing")
    parser.add_argument("--quick", action="store_true", help="a provisional recording")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    load = busy_share()
    if load is not None and load > 0.3:
        print(f"Warning: the machine is {load:.0%} busy; recordings want a quiet one.")
    try:
        for part, measure in PARTS.items():
            if options.part not in (None, part):
                continue
            records = measure(options.quick)
            for name, record in () if options.dry_run else records.items():
                write_json(FOLDER / f"{name}.json", record)
                print(f"wrote {name}.json")
    except (RuntimeError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
