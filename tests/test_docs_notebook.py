"""The notebooks run from the first cell to the last and still print what is stored in them; the figures draw."""

import json
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

KERNEL = "running_interpreter"
FLOAT = "float"
"""Tag of cells whose text may follow from the last bit of a float32 function, which processors do not agree on."""
MAX_FIGURE_BYTES = 200_000


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run(notebook)``: the notebook after its execution by this very interpreter, in an empty folder."""
    spec = tmp_path / "jupyter" / "kernels" / KERNEL
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": command, "display_name": KERNEL, "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(spec.parents[1]))
    folder = tmp_path / "empty"
    folder.mkdir()

    def execute(notebook):
        return NotebookClient(notebook, kernel_name=KERNEL, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()

    return execute


def printed(cell):
    """What a code cell printed, and the kinds of everything else that it shows."""
    text = "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")
    return text, sorted(kind for output in cell.outputs for kind in output.get("data", {}))


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.rtl
def test_the_tour_prints_what_it_stores(root, run):
    stored = nbformat.read(root / "docs" / "tour.ipynb", as_version=4)
    fresh = run(nbformat.from_dict(json.loads(json.dumps(stored))))
    compared = 0
    for before, after in zip(code_cells(stored), code_cells(fresh), strict=True):
        (text, kinds), (new_text, new_kinds) = printed(before), printed(after)
        assert kinds == new_kinds and text.count("\n") == new_text.count("\n"), after.source
        if FLOAT not in before.metadata.get("tags", ()):
            assert text == new_text, f"{after.source}\n(./dev notebook stores what it prints now)"
            compared += bool(text)
    everything = "".join(printed(cell)[0] for cell in code_cells(fresh))
    assert compared >= 7 and "512 results equal: True; cycles equal: True" in everything
    assert everything.count(" 0 wrong; ") == 6 and "2.00 times dense" in everything


@pytest.mark.rtl
def test_the_transformer_notebook_prints_what_it_stores(root, run):
    stored = nbformat.read(root / "docs" / "moe_vit.ipynb", as_version=4)
    fresh = run(nbformat.from_dict(json.loads(json.dumps(stored))))
    pairs = [(printed(before), printed(after)) for before, after in zip(code_cells(stored), code_cells(fresh), strict=True)]
    assert all(before == after for before, after in pairs), "./dev notebook stores what it prints now"
    everything = "".join(text for (text, _), _ in pairs)
    assert len([text for (text, _), _ in pairs if text]) >= 5 and everything.count(" 0 wrong") == 1
    assert "847,123 cycles (exact), 2.82 ms" in everything


@pytest.mark.rtl
def test_the_training_notebook_prints_what_it_stores(root, run):
    """Every figure: trainings have the same bits on every processor."""
    stored = nbformat.read(root / "docs" / "training.ipynb", as_version=4)
    fresh = run(nbformat.from_dict(json.loads(json.dumps(stored))))
    pairs = [(printed(before), printed(after)) for before, after in zip(code_cells(stored), code_cells(fresh), strict=True)]
    assert all(before == after for before, after in pairs), "./dev notebook stores what it prints now"
    everything = "".join(text for (text, _), _ in pairs)
    assert len([text for (text, _), _ in pairs if text]) >= 5 and everything.count("2,560     0\n") == 8


@pytest.mark.rtl
def test_a_failing_cell_fails(run):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)\nassert 0")])
    with pytest.raises(CellExecutionError):
        run(notebook)


def test_the_kernel_is_this_interpreter(run):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import sys\nprint(sys.executable)")])
    assert printed(run(notebook).cells[0]) == (sys.executable + "\n", [])


def test_the_figures_draw(root, tmp_path):
    stored = sorted((root / "docs" / "figures").glob("*.svg"))
    command = [sys.executable, root / "docs" / "figures" / "make.py", "--to", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    drawn = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    assert sorted(drawn) == [path.name for path in stored] and len(drawn) >= 4
    for path in stored:
        # Coordinates may differ in the last digit from machine to machine; what is drawn may not.
        assert drawn[path.name].count("<path") == path.read_text().count("<path"), path.name
        assert path.stat().st_size < MAX_FIGURE_BYTES
        assert "<text" not in drawn[path.name], "letters must be outlines: fonts differ from machine to machine"
