"""Runs the notebooks in this folder and stores what they print, without times and without traces of the machine.

python docs/store.py
"""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

__all__ = ["store"]

FOLDER = Path(__file__).parent


def store(path):
    """Run a notebook in an empty folder and put its outputs in its file; the file stays as it is if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as empty:
        resources = {"metadata": {"path": empty}}
        NotebookClient(notebook, resources=resources, record_timing=False, coalesce_streams=True).execute()
    notebook.metadata.language_info = {"name": "python"}
    part = path.with_name(path.name + ".part")
    nbformat.write(notebook, part)
    os.replace(part, path)


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.ipynb")):
        store(path)
        print(path.name)
