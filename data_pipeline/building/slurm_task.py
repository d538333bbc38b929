"""One element of an array job.

`python -m data_pipeline.building.slurm_task TASKS ELEMENT ELEMENTS` does every ELEMENTS-th task of
the list TASKS, from number ELEMENT on.
"""

import json
import sys
from pathlib import Path

from data_pipeline.base.errors import command
from data_pipeline.building.steps import Task, execute


@command
def main(argv: list[str] | None = None) -> int:
    """Exit code 0 when all tasks of the element are done."""
    path, element, elements = sys.argv[1:] if argv is None else argv
    values = json.loads(Path(path).read_text(encoding="utf-8"))
    for value in values[int(element) :: int(elements)]:
        versions = tuple((name, version) for name, version in value["versions"])
        execute(Task(**{**value, "folder": Path(value["folder"]), "versions": versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
