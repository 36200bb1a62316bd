"""The built site in a browser with the network cut, held against every gate of its own."""

import pytest

from gates.browser import Site
from gates.registry import gates

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("gate", gates("site"), ids=lambda gate: gate.name)
def test_the_site_passes(gate, site, report):
    found = gate.check(site)
    for name, figure in site.figures.items():
        report(name, figure)
    assert not found, f"{gate.proves}\n" + "\n".join(map(str, sorted(set(found))))


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
