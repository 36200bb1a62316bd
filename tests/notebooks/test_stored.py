"""The stored notebooks, held against every gate of theirs; nbval compares what they show."""

import pytest

from gates.core import Book
from gates.registry import gates


@pytest.mark.parametrize("gate", gates("notebooks"), ids=lambda gate: gate.name)
def test_the_notebooks_pass(gate):
    found = gate.check(Book())
    assert not found, f"{gate.proves}\n" + "\n".join(map(str, sorted(found)))
