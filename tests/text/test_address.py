"""One command changes the book's public address everywhere, in a copy of the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import address
from gates.core import MATTER, ROOT, SKIPPED

NEW = "https://github.com/somebody-else/another-name"


@pytest.fixture
def copy(tmp_path):
    for name in MATTER:
        source, target = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*SKIPPED))
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return tmp_path


def _run(folder, *arguments):
    return subprocess.run(
        [sys.executable, folder / "tools" / "address.py", *arguments],
        capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def _strays(folder, forms):
    found = []
    for directory, below, names in os.walk(folder):
        below[:] = [name for name in below if name not in SKIPPED]
        for name in names:
            path = Path(directory) / name
            text = path.read_text("utf-8", errors="ignore")
            found += [(path, form) for form in forms if form in text]
    return found


def test_one_command_changes_all(copy):
    old = address.repository_address()
    assert _strays(copy, address._forms(old)), "the old address is not there to begin with"
    done = _run(copy, NEW)
    assert done.returncode == 0, done.stderr
    assert _strays(copy, address._forms(old)) == []
    assert _run(copy).stdout.strip() == NEW
    stamped = list((copy / "notebooks").rglob("*.ipynb"))
    for path in stamped:
        assert "somebody-else/another-name" in path.read_text("utf-8"), path


def test_back_again_is_as_before(copy):
    old = address.repository_address()
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    assert _run(copy, NEW).returncode == 0
    assert _run(copy, old).returncode == 0
    changed = [str(p) for p, content in before.items() if p.read_bytes() != content]
    assert changed == []


@pytest.mark.parametrize("wrong", ["example.com/a/b", "https://github.com/only-owner", ""])
def test_what_is_no_address_changes_nothing(copy, wrong):
    before = (copy / "_config.yml").read_bytes()
    done = _run(copy, wrong)
    assert done.returncode != 0
    assert "https://github.com/OWNER/NAME" in done.stderr
    assert (copy / "_config.yml").read_bytes() == before
