"""The commands behind `make`: what they say when something is wrong."""

from __future__ import annotations

import gzip
import importlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module


def _site(folder: Path) -> Path:
    (folder / "index.html").write_text("<h1>A book</h1>" * 200)
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def test_the_server_compresses_text_and_nothing_else(tools, tmp_path):
    server = tools("serve").make_server(_site(tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}/"
    try:
        asked = urllib.request.Request(base, headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(asked) as answer:
            body = answer.read()
            assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(body) == (tmp_path / "index.html").read_bytes()
        asked = urllib.request.Request(base + "picture.png", headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(asked) as answer:
            assert answer.headers["Content-Encoding"] is None
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(base + "nothing.html")
    finally:
        server.shutdown()
        server.server_close()


def test_the_server_listens_on_this_machine_only(tools, tmp_path):
    server = tools("serve").make_server(_site(tmp_path))
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


def test_without_a_site_the_server_says_what_to_run():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/serve.py"), "no-such-folder"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 1 and "make book" in done.stderr and "Traceback" not in done.stderr


def test_a_port_in_use_is_said_and_another_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [
                sys.executable,
                "-u",
                str(ROOT / "tools/serve.py"),
                str(_site(tmp_path)),
                "--port",
                str(port),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert f"port {port} cannot be used" in process.stdout.readline()
            assert "the book is at http://127.0.0.1:" in process.stdout.readline()
        finally:
            process.terminate()
            process.wait(timeout=10)
            process.stdout.close()


def test_an_old_python_is_told_in_one_line(tmp_path):
    source = (ROOT / "tools/run.py").read_text().replace("(3, 11)", "(9, 0)", 1)
    script = tmp_path / "run.py"
    script.write_text(source)
    done = subprocess.run([sys.executable, str(script), "book"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "the book needs 3.11" in done.stderr


def test_a_missing_python_is_told_in_one_line():
    done = subprocess.run(
        ["make", "PYTHON=python-that-is-not-there", "book"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode and "no python-that-is-not-there here" in done.stdout


def test_every_make_target_is_one_that_run_knows(tools):
    text = (ROOT / "Makefile").read_text()
    named = {line.split("tools/run.py")[0] for line in text.splitlines() if "tools/run.py" in line}
    assert named
    source = (ROOT / "tools/run.py").read_text()
    targets = ["book", "site", "serve", "test", "test-all", "notebooks", "bench", "lint", "clean"]
    for target in [*targets, "address"]:
        assert f"\n{target}:" in text and f'"{target}"' in source


def _notebook(path: Path, *code: str) -> Path:
    cells = [
        {
            "cell_type": "markdown",
            "id": "a",
            "metadata": {"tags": ["header"]},
            "source": "# T\n\nx",
        },
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {"tags": ["setup"]},
            "source": "import helpers",
            "outputs": [],
            "execution_count": None,
        },
    ]
    cells += [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {},
            "source": text,
            "outputs": [],
            "execution_count": None,
        }
        for number, text in enumerate(code)
    ]
    path.write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    )
    return path


@pytest.fixture
def shelf(tools, tmp_path, monkeypatch):
    """The notebook tool, looking at a folder of its own."""
    module = tools("notebooks")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module, tmp_path / "notebooks"


def test_storing_twice_gives_the_same_bytes(shelf):
    module, folder = shelf
    path = _notebook(folder / "a.ipynb", "print(1)\nprint(2)", "{'b': 1}")
    assert module.run(path)[2] == ""
    first = path.read_bytes()
    assert b"Open in Colab" in first and b"%pip install" in first
    assert module.run(path)[2] == ""
    assert path.read_bytes() == first


def test_a_broken_notebook_is_named_and_left_as_it_was(shelf):
    module, folder = shelf
    path = _notebook(folder / "broken.ipynb", "1 / 0")
    before = path.read_bytes()
    fault = module.run(path)[2]
    assert "notebooks/broken.ipynb" in fault and "ZeroDivisionError" in fault
    assert path.read_bytes() == before
    assert not list(folder.glob("*.part"))


def test_a_file_that_is_no_notebook_is_named(shelf):
    module, folder = shelf
    path = folder / "torn.ipynb"
    path.write_text('{"cells": [')
    assert "notebooks/torn.ipynb: not a notebook" in module.run(path)[2]


def test_addresses_other_than_githubs_are_refused(tools):
    with pytest.raises(ValueError, match="OWNER/NAME"):
        tools("address").change("https://example.com/book")


def test_the_address_changes_everywhere_and_leaves_no_trace(tools, tmp_path, monkeypatch):
    address = tools("address")
    old = address.repository_address()
    for name in ("_config.yml", *address.FILES):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(address, "ROOT", tmp_path)
    monkeypatch.setattr(address, "CONFIG", tmp_path / "_config.yml")
    assert "_config.yml" in address.change("https://github.com/somebody/some-book/")
    assert address.repository_address() == "https://github.com/somebody/some-book"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert old.removeprefix("https://") not in path.read_text("utf-8"), path.name


@pytest.fixture
def workshop(tools, tmp_path, monkeypatch):
    """The build step with a builder of our own: it writes what it is told and ends as told."""
    run = tools("run")
    stage = tmp_path / "_build" / "stage"
    plan = {"text": "first", "code": 0}

    def build(*command, **_options):
        folder = stage / "_build" / "html"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "page.html").open("r+" if (folder / "page.html").exists() else "w").write(
            plan["text"]
        )  # in place, as Sphinx does
        return plan["code"]

    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "STAGE", stage)
    monkeypatch.setattr(run, "SITE", tmp_path / "_build" / "html")
    monkeypatch.setattr(run, "check_data", lambda: None)
    monkeypatch.setattr(run, "call", build)
    return run, plan, tmp_path / "_build" / "html" / "page.html"


def test_a_failed_build_leaves_the_site_from_before_as_it_was(workshop):
    run, plan, page = workshop
    run.build_site()
    assert page.read_text() == "first"
    plan.update(text="torn!", code=1)
    with pytest.raises(run.Failed, match="untouched"):
        run.build_site()
    assert page.read_text() == "first"
    plan.update(text="again", code=0)
    run.build_site()
    assert page.read_text() == "again"


def test_a_torn_notebook_is_named_before_the_build(tools, tmp_path, monkeypatch):
    run = tools("run")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "torn.ipynb").write_text('{"cells": [')
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "call", lambda *command, **options: 0)
    with pytest.raises(run.Failed, match=r"notebooks/torn.ipynb: not a whole notebook"):
        run.check_data()


def test_a_port_that_no_machine_has_is_refused():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/serve.py"), "--port", "99999"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "65535" in done.stderr and "Traceback" not in done.stderr


def test_one_list_names_the_notebooks_that_measure(tools):
    measuring = tools("measuring").MEASURING
    assert tools("notebooks").MEASURING is measuring is tools("run").MEASURING
    for name in measuring:
        assert (ROOT / name).is_file(), f"tools/measuring.py names {name}, which is gone"
