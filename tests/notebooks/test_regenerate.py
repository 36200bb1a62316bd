"""Running a notebook again stores the same bytes: in a copy, compared with what is stored."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from gates.core import ROOT, SKIPPED, Book

QUICK = ["notebooks/front/units.ipynb", "notebooks/front/formula-sheet.ipynb"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    for name in ("tools", "notebooks", "chapters"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*SKIPPED))
    shutil.copy2(ROOT / "_config.yml", folder)
    return folder


def _run(folder, *names):
    done = subprocess.run(
        [sys.executable, "tools/notebooks.py", "run", *names],
        cwd=folder, capture_output=True, text=True,
        env={**os.environ, "MOVING_BYTES_RECORDED": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def _differ(folder, names):
    return [name for name in names if (folder / name).read_bytes() != (ROOT / name).read_bytes()]


def test_a_run_stores_what_is_stored_and_a_second_changes_nothing(copy):
    names = [name for name in QUICK if (ROOT / name).is_file()]
    assert names, "the quick notebooks are gone: name others"
    for name in names:
        raw = (copy / name).read_text("utf-8")
        raw = raw.replace('"execution_count": 1,', '"execution_count": 9,')
        (copy / name).write_text(raw, "utf-8")
    _run(copy, *names)
    assert _differ(copy, names) == []
    stamps = [(copy / name).stat().st_mtime_ns for name in names]
    _run(copy, *names)
    assert _differ(copy, names) == []
    again = [(copy / name).stat().st_mtime_ns for name in names]
    assert again == stamps, "a file was written though nothing in it changed"


@pytest.mark.slow
def test_all_notebooks_store_what_is_stored(copy, report):
    names = [notebook.name for notebook in Book().notebooks()]
    _run(copy)
    assert _differ(copy, names) == []
    report("notebooks", f"{len(names)} run again, every byte as stored")


def test_a_broken_notebook_is_named_and_left_alone(copy):
    name = "notebooks/front/broken.ipynb"
    raw = json.loads((ROOT / QUICK[0]).read_text("utf-8"))
    raw["cells"] = raw["cells"][:2]
    cell = {**raw["cells"][1], "id": "broken", "metadata": {}, "source": ["1 / 0"]}
    raw["cells"].append(cell)
    (copy / name).write_text(json.dumps(raw), "utf-8")
    before = (copy / name).read_bytes()
    done = subprocess.run(
        [sys.executable, "tools/notebooks.py", "run", name],
        cwd=copy, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert name in done.stdout + done.stderr
    assert "ZeroDivisionError" in done.stdout + done.stderr
    assert (copy / name).read_bytes() == before
    (copy / name).unlink()
