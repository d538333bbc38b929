"""VisualDL's pages of a run as a browser draws them, not only the file that it reads."""

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from launch.nodes.addresses import free_port
from pretrain.training.metrics import RecordWriter

BROWSER = shutil.which("chromium")
RECIPE = {"seed": 2021, "optimizer": {"learning_rate": 0.0625}, "teacher": {"path": "some/teacher"}}

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.skipif(BROWSER is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where VisualDL serves a run of three records."""
    run = tmp_path_factory.mktemp("run")
    writer = RecordWriter(run, 0, 30, ("visualdl",), RECIPE)
    for step in (10, 20, 30):
        numbers = {"loss/total": 0.5 / step, "optim/lr": 0.5, "speed/sequences_per_s": 40.0}
        writer.write({"step": step, **numbers, "loss/q": 0.25, "loss/k": 0.25, "loss/v": 0.25})
    writer.close()
    port = free_port("127.0.0.1")
    program = str(Path(sys.executable).with_name("visualdl"))
    words = [program, "--logdir", str(run / "vdl"), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/app", server)
        yield f"http://127.0.0.1:{port}/app"
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen) -> None:
    request = urllib.request.Request(url, headers={"Accept-Language": "en"})
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(request, timeout=10).close()
            return
        except OSError:
            assert server.poll() is None, "VisualDL has ended"
            assert time.monotonic() < until, "VisualDL does not answer"
            time.sleep(0.2)


def page(url: str, profile: Path) -> str:
    """The page's elements once its scripts have fetched and drawn everything."""
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu"]
    words += ["--disable-background-networking", f"--user-data-dir={profile}"]
    words += ["--virtual-time-budget=5000", "--dump-dom", f"{url}?lang=en"]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=True).stdout


def words_of(html: str) -> str:
    html = re.sub(r"<(style|script)\b.*?</\1>", " ", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_curves_are_drawn_by_group(address, tmp_path):
    html = page(f"{address}/scalar", tmp_path)
    assert "loss 4 optim 1 speed 1" in words_of(html)
    assert html.count("<canvas") == 4, "a chart for each of the losses, whose group is open"


def test_runs_can_be_compared_by_their_hyper_parameters(address, tmp_path):
    text = words_of(page(f"{address}/hyper-parameter", tmp_path))
    names = "seed optimizer/learning_rate teacher/path loss/total speed/sequences_per_s"
    assert names in text
    assert re.search(r"/vdl 2021 0\.0625 some/teacher 0\.01666\d* 40 ", text), text


def test_the_recipe_is_there_as_text(address, tmp_path):
    text = words_of(page(f"{address}/text", tmp_path))
    assert "seed: 2021 optimizer: learning_rate: 0.0625 teacher: path: some/teacher" in text
