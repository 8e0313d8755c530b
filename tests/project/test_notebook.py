"""The quickstart notebook: holds no outputs, names only what there is, and runs from install to report."""

import ast
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat")

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_notebook_stores_no_outputs(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_notebook_names_the_folder_of_the_kaggle_set(notebook):
    words = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "KAGGLE_DIR" in words
    assert "train/real" in words
    assert "Colab" in words


def test_notebook_cells_are_valid_python(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ast.parse("\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith("%")) + "\n")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_notebook_runs(notebook, tmp_path, monkeypatch):
    pytest.importorskip("ipykernel", reason="running a notebook needs ipykernel")
    client = pytest.importorskip("nbclient", reason="running a notebook needs nbclient")
    small = {"write_sample(pictures)": "write_sample(pictures, train_per_source=6, test_per_source=2, size=64)"}
    for cell in notebook.cells:
        for old in [one for one in small if one in cell.source]:
            cell.source = cell.source.replace(old, small.pop(old))
    assert small == {}
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    client.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "\n".join(str(cell.get("outputs")) for cell in notebook.cells)
    assert "64 simulated pictures" in shown
    assert "srcdoc" in shown
    assert "image/png" in shown
    run = tmp_path / "quickstart" / "runs" / "001"
    for name in ("experts.safetensors", "report.html", "report.json"):
        assert (run / name).is_file()
    assert (tmp_path / "quickstart" / "why.png").is_file()
