"""The built site in a browser with the network cut, held against every gate of its own."""

import pytest

from gates.browser import BUILT, Site, pages_in
from gates.registry import gates
from gates.site_live import SHOWS, showing

pytestmark = pytest.mark.browser

#: gates that read what loading a page showed: one load serves them all
LOADING = [gate for gate in gates("site") if gate.by_page and gate.name not in SHOWS]
#: largest first: the last test of a run should be a short one
PAGES = sorted(pages_in(BUILT), key=lambda name: -(BUILT / name).stat().st_size)
#: each figure, replay and question is driven on its own page
DRIVEN = [
    pytest.param(gate, name, id=f"{gate.name}: {name}")
    for gate in gates("site")
    if gate.name in SHOWS
    for name in showing(gate.name, BUILT, PAGES)
]


def passes(gate, site, report):
    """Hold a site, or one page of it, against a gate."""
    found = gate.check(site)
    for name, figure in site.figures.items():
        report(name, figure)
    assert not found, f"{gate.proves}\n" + "\n".join(map(str, sorted(set(found))))


@pytest.mark.parametrize(("gate", "name"), DRIVEN)
def test_what_moves_moves_rightly(gate, name, site, report):
    passes(gate, site.only(name), report)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_passes(name, site, report):
    for gate in LOADING:
        passes(gate, site.only(name), report)


@pytest.mark.parametrize(
    "gate", [gate for gate in gates("site") if not gate.by_page], ids=lambda gate: gate.name
)
def test_the_site_passes(gate, site, report):
    passes(gate, site, report)


def test_no_page_and_no_kind_of_figure_was_left_out(site):
    assert sorted(PAGES) == site.pages
    assert {case.values[0].name for case in DRIVEN} == set(SHOWS)


@pytest.mark.parametrize(
    ("gate", "plant"),
    [
        pytest.param(gate, plant, id=f"{gate.name}: {plant.name}")
        for gate in gates("site")
        for plant in gate.plants
    ],
)
def test_catches(gate, plant, chromium, tmp_path):
    file = plant.edit(tmp_path)
    with Site(tmp_path, chromium) as planted:
        found = gate.check(planted)
    assert any(defect.file == file for defect in found), f"{gate.name} did not see it: {plant.name}"


@pytest.mark.parametrize(
    "gate", [g for g in gates("site") if g.name != "all-built"], ids=lambda gate: gate.name
)
def test_a_page_without_fault_passes(gate, chromium, tmp_path):
    from gates.site_loading import page

    page(tmp_path, "<p>All is well.</p>")
    with Site(tmp_path, chromium) as clean:
        assert gate.check(clean) == []


def test_a_site_without_pages_is_no_proof(chromium, tmp_path):
    from gates.site_loading import page

    name = page(tmp_path, "")
    with Site(tmp_path, chromium) as emptied:
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match="nothing would be proved"):
            _ = emptied.pages
