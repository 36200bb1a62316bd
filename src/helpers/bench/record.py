"""Make the recorded runs anew: ``python -m helpers.bench.record``.

Run it on a quiet machine: close everything else first. Nothing is written until all is measured,
and each file is replaced whole.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from helpers.bench import operations
from helpers.bench.probe import probe
from helpers.bench.recorded import FOLDER
from helpers.bench.storage import write_json

COMMAND = "python -m helpers.bench.record"


#: how often to try for a run in which the machine holds still
ATTEMPTS = 4


def busy_share() -> float | None:
    """Load of the machine over the last minute as a share of its cores (None if unknown)."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (OSError, AttributeError):
        return None


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
        description="Make the recorded runs that ship with the package anew (two minutes).",
    )
    parser.add_argument("--dry-run", action="store_true", help="measure, show, write nothing")
    parser.add_argument("--quick", action="store_true", help="a provisional recording, 30 seconds")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    load = busy_share()
    if load is not None and load > 0.3:
        print(f"Warning: the machine is {load:.0%} busy; recordings want a quiet one.")
    try:
        samples, seconds_each, rounds = (9, 0.4, 1) if options.quick else (12, 0.9, 3)
        for attempt in range(1, ATTEMPTS + 1):
            # half of the operations' samples before the card and half after: a machine that
            # changes slowly changes for both alike
            halves = []
            for half in ("before", "after"):
                if half == "after":
                    card = probe(quick=options.quick)
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
            print("The machine does not hold still; nothing was written.", file=sys.stderr)
            return 1
        play = operations.measure(
            operations.playground_operations(),
            samples=7,
            seconds_each=seconds_each / 3,
            command=COMMAND,
        )
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    card = card.model_copy(update={"command": COMMAND})
    print(operations.compare(card, run))
    if not options.dry_run:
        for name, record in (
            ("reference-cpu-card", card),
            ("reference-cpu-operations", run),
            ("reference-cpu-playground", play),
        ):
            write_json(FOLDER / f"{name}.json", record)
            print(f"wrote {name}.json")
    print(f"{time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
