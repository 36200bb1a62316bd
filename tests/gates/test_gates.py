"""Each gate catches the defects that are planted for it, and no gate is without one."""

from functools import cache

import pytest

from gates.core import Book
from gates.registry import GATES

STATIC = [gate for gate in GATES if gate.where != "site"]


@cache
def _said_of_the_book(gate):
    """What a gate finds without a plant; once for all its plants, for the book does not change."""
    return {(defect.file, defect.message) for defect in gate.check(Book())}


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_has_a_plant_and_says_what_it_proves(gate):
    assert gate.plants, f"{gate.name}: no planted defect shows that this gate can fail"
    assert gate.proves.endswith(".")
    assert gate.where in ("text", "notebooks", "site")


def test_names_are_unique():
    names = [gate.name for gate in GATES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("gate", "plant"),
    [
        pytest.param(gate, plant, id=f"{gate.name}: {plant.name}")
        for gate in STATIC
        for plant in gate.plants
    ],
)
def test_catches(gate, plant, tmp_path):
    planted = Book().planted(tmp_path)
    file = plant.edit(planted)
    before = _said_of_the_book(gate)
    new = [d for d in gate.check(planted) if (d.file, d.message) not in before]
    assert new, f"{gate.name} did not see it: {plant.name}"
    assert any(defect.file.startswith(file) for defect in new), (
        f"{file} is not named in:\n" + "\n".join(map(str, new))
    )


def test_there_is_a_book_to_look_at():
    """A gate that finds no page, chapter or notebook would pass without proving anything."""
    from gates.anatomy import chapters

    book = Book()
    listed = {name for _, name in book.toc_entries()}
    seen = {page.name for page in book.pages()} | {n.name for n in book.notebooks()}
    assert listed and listed <= seen, f"in the contents and never looked at: {listed - seen}"
    assert chapters(book)
    assert set(book.files("notebooks", suffixes=(".ipynb",))) == {n.name for n in book.notebooks()}
