"""`python -m docs.generators.notebook`: run docs/notebook.ipynb and write its outputs into it.

The text of the notebook is edited in the notebook itself.
"""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
CELL_SECONDS = 1800


def executed(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook with new outputs, run from an empty `folder`.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell has failed.
    """
    (folder / "assets").symlink_to(ROOT / "assets")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / ".ipython")}
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    return notebook


def main() -> None:
    """Run all cells with the sizes that stand in the notebook."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(nbformat.read(NOTEBOOK, nbformat.NO_CONVERT), Path(folder))
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
