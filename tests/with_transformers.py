"""Scripts run in another environment that has torch and transformers.

transformers cannot share this environment: it needs other versions of huggingface-hub and
tokenizers than PaddleNLP 2.8.1 does. TRANSFORMERS_PYTHON names a python that has both
libraries (and sentence-transformers, whose part is left out where it is missing); without it these
tests are skipped.
"""

import os
import subprocess
from pathlib import Path

import pytest

PYTHON = os.environ.get("TRANSFORMERS_PYTHON")
needed = pytest.mark.skipif(
    not PYTHON, reason="needs a python with torch and transformers, named in TRANSFORMERS_PYTHON"
)


def run(script: str, *arguments: Path) -> None:
    """Run a script there, without a network; fails the test with its messages."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.run(
        [PYTHON, "-c", script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
