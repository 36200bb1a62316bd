"""What all tests share: the measured figures, collected and printed at the end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import settings

# `make test` draws the same examples every time, so that a red run means a change; `make test-all`
# draws new ones and so keeps looking
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("exploring", deadline=None)
settings.load_profile("exploring" if os.environ.get("MOVING_BYTES_EXPLORE") else "repeatable")

BUILD = Path(__file__).resolve().parents[1] / "_build"
#: everything measured so far, for whoever wants to quote it
REPORT = BUILD / "report.json"
#: what this run measured, one line each: several workers append, the one in charge prints
NOTES = BUILD / "report.lines"


@pytest.fixture(scope="session")
def report():
    """Note a measured figure: ``report("name", "12 kB")``; it is printed when all is done."""

    def note(name: str, value: object) -> None:
        BUILD.mkdir(exist_ok=True)
        with NOTES.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([name, str(value)], ensure_ascii=False) + "\n")

    return note


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        NOTES.unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter):
    if not NOTES.is_file():
        return
    noted = dict(json.loads(line) for line in NOTES.read_text("utf-8").splitlines())
    terminalreporter.section("measured")
    for name, value in sorted(noted.items()):
        terminalreporter.write_line(f"{name}: {value}")
    known = json.loads(REPORT.read_text("utf-8")) if REPORT.is_file() else {}
    scratch = REPORT.with_suffix(".part")
    scratch.write_text(json.dumps({**known, **noted}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    scratch.replace(REPORT)
