"""What a run writes down: metrics.jsonl (the truth), VisualDL (a view of it), a progress line."""

import json
import shutil
from pathlib import Path

from data_pipeline.base.files import write_atomically
from data_pipeline.base.progress import Progress


class Monitor:
    """Records of one run; made on rank 0 only.

    On resume, records after the checkpoint are cut from metrics.jsonl and the curves are drawn anew
    from what is left, so they go on without overlap.
    """

    def __init__(self, output_dir: Path, step: int, total_steps: int):
        from visualdl import LogWriter

        self.path = output_dir / "metrics.jsonl"
        kept = [record for record in read_metrics(self.path) if record["step"] <= step]
        write_atomically(self.path, "".join(f"{json.dumps(record)}\n" for record in kept))
        self._file = self.path.open("a", encoding="utf-8")
        curves = output_dir / "vdl"
        shutil.rmtree(curves, ignore_errors=True)
        self._curves = LogWriter(logdir=str(curves))
        for record in kept:
            self._draw(record)
        self.progress = Progress(output_dir.name, total_steps, "step", start=step)

    def write(self, record: dict[str, float]) -> None:
        """One record: `step` and named numbers such as `loss/total`."""
        self._file.write(f"{json.dumps(record)}\n")
        self._file.flush()
        self._draw(record)

    def close(self) -> None:
        """Flush everything."""
        self.progress.close()
        self._file.close()
        self._curves.close()

    def _draw(self, record: dict[str, float]) -> None:
        for name, value in record.items():
            if name != "step":
                self._curves.add_scalar(tag=name, step=record["step"], value=value)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Records of a metrics.jsonl; a last line cut short by a crash is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
