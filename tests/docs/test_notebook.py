"""The notebook: its cells run, at small sizes."""

import importlib.util

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nbclient") is None or importlib.util.find_spec("ipykernel") is None,
    reason="nbclient and ipykernel (extra `notebook`) are not installed",
)
SMALL = "TEXTS, STEPS, EXAMPLES, EPOCHS = 300, 2, 30, 1"


def texts_of(notebook) -> list[str]:
    """What each code cell printed or returned."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return [
        "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell)
        for cell in outputs
    ]


@pytest.fixture
def notebook():
    import nbformat

    from docs.generators.notebook import NOTEBOOK

    read = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    nbformat.validate(read)
    return read


@pytest.mark.ranks
def test_the_cells_run(notebook, tmp_path, monkeypatch):
    from docs.generators.notebook import executed

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (parameters,) = (
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
    )
    parameters.source = SMALL
    printed = texts_of(executed(notebook, tmp_path))
    assert "step    2  loss" in printed[4]
    assert "model.safetensors" in printed[5]
    assert len(printed[-1].splitlines()) == 3
    assert {line.split()[0] for line in printed[-1].splitlines()} <= {"praise", "complaint"}


def test_the_outputs_of_a_full_run_are_kept(notebook):
    """Those of the sizes that stand in it; `make notebook` writes them."""
    printed = texts_of(notebook)
    assert "step  200  loss" in printed[4]
    assert "accuracy: dev" in printed[6]
    assert len(printed[-1].splitlines()) == 3
