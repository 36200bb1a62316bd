"""Run the book's notebooks and store their outputs; the same input gives the same bytes.

    python tools/notebooks.py run [PATH ...]     execute and store (all notebooks without PATH)
    python tools/notebooks.py run --check     execute, store nothing
    python tools/notebooks.py stamp              rewrite the generated parts only (address, set-up)

The generated parts are the line of buttons in a notebook's header cell and its set-up cell; both
come from the address in `_config.yml`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from address import repository_address  # noqa: E402
from measuring import MEASURING  # noqa: E402

SECONDS_ALLOWED = 120

SETUP = """\
# In Colab this installs the book's library beside what Colab has; elsewhere it only imports it.
try:
    import helpers
except ModuleNotFoundError:
    %pip install -q "moving-bytes @ git+{address}"
    import helpers"""

BUTTONS = re.compile(r"^\[Open in Colab\]\(.*$", re.MULTILINE)
WIDGET = "application/vnd.jupyter.widget-view+json"
RUN_METADATA = ("execution", "collapsed", "scrolled", "ExecuteTime", "outputId", "id", "vscode")


def all_notebooks() -> list[Path]:
    """Every notebook of the book, in a stable order."""
    return sorted(
        path
        for path in (ROOT / "notebooks").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in str(path)
    )


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def stamp(notebook, relative: str) -> None:
    """Rewrite the generated parts of a notebook in place."""
    address = repository_address()
    colab = address.replace("https://github.com/", "https://colab.research.google.com/github/")
    buttons = f"[Open in Colab]({colab}/blob/main/{relative})"
    for cell in notebook.cells:
        if "header" in tags(cell):
            if BUTTONS.search(cell.source):
                cell.source = BUTTONS.sub(buttons, cell.source)
            else:
                first, _, rest = cell.source.partition("\n")
                cell.source = f"{first}\n\n{buttons}\n\n{rest.lstrip()}".rstrip()
        if "setup" in tags(cell):
            cell.source = SETUP.format(address=address)


def normalise(notebook) -> None:
    """Drop what differs from run to run and is no part of the lesson."""
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
        for key in RUN_METADATA:
            cell.metadata.pop(key, None)
        if cell.cell_type != "code":
            continue
        merged = []
        for output in cell.outputs:
            same = merged and output.output_type == "stream" == merged[-1].output_type
            if same and output.name == merged[-1].name:
                merged[-1].text += output.text
            else:
                merged.append(output)
        cell.outputs = merged
        for output in cell.outputs:
            output.pop("transient", None)
            data = output.get("data", {})
            # a stored widget has no kernel to talk to: its HTML first state is what is kept
            data.pop(WIDGET, None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}


def write(notebook, path: Path) -> bool:
    """Store atomically; True if the file changed."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if path.exists() and path.read_text("utf-8") == text:
        return False
    scratch = path.with_suffix(".part")
    scratch.write_text(text, "utf-8")
    scratch.replace(path)
    return True


def run(path: Path, store: bool = True) -> tuple[Path, float, str]:
    """Execute one notebook and store it; returns (path, seconds, "" or what went wrong)."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    relative = path.relative_to(ROOT).as_posix()
    started = time.perf_counter()
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:
        return path, 0.0, f"{relative}: not a notebook ({error})"
    stamp(notebook, relative)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_ALLOWED,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        # a kernel on this machine warns that it talks to this machine without encryption
        extra_arguments=["--IPKernelApp.log_level=40"],
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError) as error:
        last = str(error).strip().splitlines()
        return (
            path,
            time.perf_counter() - started,
            f"{relative}: {last[-1]}\n" + "\n".join(last[:40]),
        )
    normalise(notebook)
    nbformat.validate(notebook)
    if store:
        write(notebook, path)
    return path, time.perf_counter() - started, ""


def _environment(path: Path) -> None:
    os.environ["MOVING_BYTES_RECORDED"] = "1"
    if path.relative_to(ROOT).as_posix() not in MEASURING:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = "1"
    else:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.pop(name, None)


def _run_in_worker(path: Path, store: bool = True):
    _environment(path)
    return run(path, store)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("action", choices=["run", "stamp"])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="execute but store nothing")
    options = parser.parse_intermixed_args()
    paths = [path.resolve() for path in options.paths] or all_notebooks()
    for path in paths:
        if not path.is_file():
            print(f"notebooks: {path}: no such notebook", file=sys.stderr)
            return 2
    if options.action == "stamp":
        for path in paths:
            notebook = nbformat.read(path, as_version=4)
            stamp(notebook, path.relative_to(ROOT).as_posix())
            if write(notebook, path):
                print(f"notebooks: stamped {path.relative_to(ROOT)}")
        return 0
    alone = [p for p in paths if p.relative_to(ROOT).as_posix() in MEASURING]
    failed = 0
    with ProcessPoolExecutor(max_workers=2) as pool:
        store = not options.check
        others = [path for path in paths if path not in alone]
        results = pool.map(partial(_run_in_worker, store=store), others)
        for path, seconds, fault in results:
            failed += bool(fault)
            print(
                fault or f"notebooks: {path.relative_to(ROOT)} ran in {seconds:.1f} s", flush=True
            )
    for path in alone:
        path, seconds, fault = _run_in_worker(path, store)
        failed += bool(fault)
        print(fault or f"notebooks: {path.relative_to(ROOT)} ran in {seconds:.1f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
