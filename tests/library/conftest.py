"""What all tests of the library share."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny products: a second thread costs more than it brings, and the tests run two at a time."""
    torch = sys.modules.get("torch")  # whoever does not import it does not wait for it
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
