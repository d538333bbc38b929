"""The records of a run, read back. Nothing here imports Paddle."""

import json
from pathlib import Path


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
