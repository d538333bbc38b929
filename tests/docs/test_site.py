"""The documentation builds without a warning: links, anchors and the list of pages are right."""

import importlib.util
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs (extra `docs`) is not installed"
)
def test_the_site_builds_without_a_warning(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = (ROOT / "docs").rglob("*.md")
    expected = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in pages}
    assert expected <= {path.relative_to(tmp_path) for path in tmp_path.rglob("*.html")}
