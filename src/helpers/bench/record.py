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
        card = probe(quick=options.quick)
        print(card.summary())
        samples, seconds_each = (9, 0.4) if options.quick else (15, 1.5)
        run = operations.measure(
            samples=samples,
            seconds_each=seconds_each,
            progress=lambda name: print(f"  {name}"),
            command=COMMAND,
        )
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
