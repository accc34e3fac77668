"""Run the notebooks from the first cell to the last, each in an empty folder.

    python docs/notebooks/run.py [NAME ...] [--keep FOLDER]

Notebooks are committed without outputs. `--keep` writes them with their outputs into a folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run all notebooks or those that are named; the first cell that fails ends it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    # One folder for all, so that the cohort is simulated and the store built once.
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(HERE.glob("*.ipynb")):
            if asked.names and path.stem not in asked.names:
                continue
            start = time.perf_counter()
            notebook = nbformat.read(path, as_version=4)
            NotebookClient(
                notebook, timeout=1200, resources={"metadata": {"path": folder}}
            ).execute()
            cells = sum(cell.cell_type == "code" for cell in notebook.cells)
            print(f"{path.name}: {cells} cells in {time.perf_counter() - start:.0f} s")
            if asked.keep is not None:
                asked.keep.mkdir(parents=True, exist_ok=True)
                nbformat.write(notebook, asked.keep / path.name)


if __name__ == "__main__":
    main()
