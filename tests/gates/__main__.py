"""Print what the gates find, without the tests around them.

PYTHONPATH=tests:tools .venv/bin/python -m gates [NAME ...]
"""

import sys

from gates.core import Book
from gates.registry import GATES


def main(names: list[str]) -> int:
    count = 0
    for gate in GATES:
        if gate.where == "site" or (names and gate.name not in names):
            continue
        for defect in sorted(gate.check(Book())):
            print(f"[{gate.name}] {defect}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
