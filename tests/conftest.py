"""What all tests share: the measured figures, collected and printed at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

REPORT = Path(__file__).resolve().parents[1] / "_build" / "report.json"
_figures: dict[str, str] = {}


@pytest.fixture(scope="session")
def report():
    """Note a measured figure: ``report("name", "12 kB")``; it is printed when all is done."""

    def note(name: str, value: object) -> None:
        _figures[name] = str(value)

    return note


def pytest_terminal_summary(terminalreporter):
    if not _figures:
        return
    terminalreporter.section("measured")
    for name, value in _figures.items():
        terminalreporter.write_line(f"{name}: {value}")
    known = {}
    if REPORT.is_file():
        known = json.loads(REPORT.read_text("utf-8"))
    known.update(_figures)
    REPORT.parent.mkdir(exist_ok=True)
    scratch = REPORT.with_suffix(".part")
    scratch.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", "utf-8")
    scratch.replace(REPORT)
