"""The notebooks run in an environment like Colab's, and setting up changes none of its packages.

A second environment has the older ipywidgets and numpy that Colab has, and everything else
(torch above all) from the first one, so that little is downloaded. The library comes from a built
wheel, as Colab's set-up cell installs it, and the notebooks run in a folder of their own.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from gates.core import ROOT, SKIPPED, Book

pytestmark = pytest.mark.slow

#: what Colab has, and differs from what the book is built with
OLDER = [
    "ipywidgets==7.7.1", "widgetsnbextension==3.6.10", "jupyterlab-widgets==3.0.15",
    "ipython-genutils==0.2.0", "numpy==2.0.2",
]  # fmt: skip


def _call(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, f"{command[:5]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The library as a wheel, built from a copy without what earlier builds left."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, source)
    shutil.copytree(
        ROOT / "src", source / "src", ignore=shutil.ignore_patterns(*SKIPPED, "*.egg-info")
    )
    target = tmp_path_factory.mktemp("wheel")
    _call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
          "--disable-pip-version-check", "-w", target, source)  # fmt: skip
    (built,) = target.glob("moving_bytes-*.whl")
    return built


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with Colab's older packages before the present ones."""
    folder = tmp_path_factory.mktemp("colab") / "env"
    venv.create(folder, with_pip=True)
    inner = folder / "bin" / "python"
    done = subprocess.run(
        [inner, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check", *OLDER],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr else "no reason given"
        message = f"the older packages cannot be downloaded: {reason}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    own = Path(_call(inner, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # a plain path: the .pth files of that folder, the editable install's among them, are not read
    (own / "first-environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return inner


def _packages(python):
    """Name -> version of all that the environment sees but the book's own library."""
    listed = json.loads(
        _call(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check")
    )
    return {p["name"].lower(): p["version"] for p in listed if p["name"] != "moving-bytes"}


@pytest.fixture(scope="module")
def installed(python, wheel, tmp_path_factory):
    """The environment with the library in it; (python, packages before, packages after)."""
    before = _packages(python)
    # the set-up cell's pip line, with the wheel in place of the address
    _call(python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
          f"moving-bytes @ {wheel.as_uri()}")  # fmt: skip
    return python, before, _packages(python)


def test_the_environment_is_older(python):
    packages = _packages(python)
    assert packages["ipywidgets"] == "7.7.1"
    assert packages["numpy"] == "2.0.2"


def test_setting_up_changes_no_package(installed):
    _, before, after = installed
    changed = {
        name: (version, after.get(name))
        for name, version in before.items() if after.get(name) != version
    }  # fmt: skip
    assert changed == {}


def test_the_library_comes_from_the_wheel(installed, tmp_path):
    python, _, _ = installed
    place = _call(python, "-c", "import helpers; print(helpers.__file__)", cwd=tmp_path)
    assert str(python.parent.parent) in place
    assert "chips 0" not in _call(
        python, "-c", "from helpers import catalog; print('chips', len(catalog.chips()))",
        cwd=tmp_path,
    )  # fmt: skip


@pytest.mark.parametrize("name", [notebook.name for notebook in Book().notebooks()])
def test_runs(name, installed, tmp_path):
    python, _, _ = installed
    shutil.copy2(ROOT / name, tmp_path / "notebook.ipynb")
    script = (
        "import nbformat, nbclient\n"
        "book = nbformat.read('notebook.ipynb', as_version=4)\n"
        "nbclient.NotebookClient(book, timeout=180, kernel_name='here').execute()\n"
    )
    kernel = tmp_path / "kernels" / "here"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "here", "language": "python",
    }))  # fmt: skip
    _call(sys.executable, "-c", script, cwd=tmp_path, env={
        **os.environ, "JUPYTER_PATH": str(tmp_path), "MOVING_BYTES_RECORDED": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    })  # fmt: skip
