"""Every message in docs/errors.md is one that the program can give."""

import json
import re
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "errors.md"
PACKAGES = ("data_pipeline", "pretrain", "finetune", "launch")
GAP = "…"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


# In a process of its own: in one that has run for long, Python 3.11's parser may raise
# "AST constructor recursion depth mismatch" (cpython issue 106905).
PROGRAM = '''
import ast, json, sys
from pathlib import Path

def texts(path):
    """The string literals of a file, and its f-strings with gaps for their values."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values)

print(json.dumps([t for name in sys.argv[1:] for p in Path(name).rglob("*.py") for t in texts(p)]))
'''


def plain(text: str) -> str:
    """Without code marks, which a table of Markdown cannot nest; blanks as one."""
    return " ".join(text.replace("`", "").split())


@pytest.fixture(scope="module")
def source() -> list[str]:
    folders = [str(ROOT / package) for package in PACKAGES]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *folders], capture_output=True, text=True, check=True
    )
    return [plain(text) for text in json.loads(done.stdout)]


def test_every_row_has_message_cause_and_cure():
    assert len(ROWS) > 40
    for row in ROWS:
        assert len([cell for cell in re.split(r"(?<!\\)\|", row)[1:-1] if cell.strip()]) == 3, row


@pytest.mark.parametrize("row", ROWS)
def test_a_message_stands_in_the_source(row, source):
    message = plain(re.match(r"\| `(.*?)` \|", row)[1])
    parts = message.split(GAP)
    pattern = re.compile(".*".join(map(re.escape, parts)))
    likely = (text for text in source if max(parts, key=len) in text)
    assert any(pattern.search(text) for text in likely), message
