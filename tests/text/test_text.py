"""The book's prose and data, held against every gate of theirs."""

import pytest

from gates.core import Book
from gates.registry import gates


@pytest.mark.parametrize("gate", gates("text"), ids=lambda gate: gate.name)
def test_the_book_passes(gate):
    found = gate.check(Book())
    assert not found, f"{gate.proves}\n" + "\n".join(map(str, sorted(found)))
