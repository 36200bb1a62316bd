"""The command line: ``moving-bytes probe`` or ``python -m helpers probe``."""

from __future__ import annotations

import argparse
import sys

#: name -> (module with a ``main(arguments)``, what it does)
COMMANDS = {
    "probe": ("helpers.bench.probe", "measure this machine (15 s; --full 60 s) and save its card"),
    "record": ("helpers.bench.record", "make the recorded runs anew that ship with the package"),
    "train": ("helpers.bench.checkpoints", "make the book's own models anew (target: an hour)"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands.

    Parameters
    ----------
    arguments : list of str, optional
        ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        The command's exit status.
    """
    from importlib import import_module

    listing = "\n".join(f"  {name:<8} {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="moving-bytes",
        description="Tools of the book Moving Bytes.",
        epilog=f"commands:\n{listing}\n\nmoving-bytes COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    return import_module(COMMANDS[options.command][0]).main(options.rest)


if __name__ == "__main__":
    sys.exit(main())
