"""How much of a model's speed is left when it is served over HTTP, and how long clients wait.

    python benchmarks/serving.py [MODEL] [--json FILE]

MODEL is what `export` or `quantise` wrote; without one, a classifier of the published size, pruned
and in INT8, with random weights. `python -m finetune serve MODEL` runs in a process of
its own; clients send one text a request over kept connections, each its next one when it has the
answer.
In every round, in turn: `Predictor` in batches of 16, one client, 16 clients.

- requests_s_1, requests_s_16: answered requests a second, by the number of clients.
- predictor_texts_s: texts a second of `Predictor` in batches of 16, in this process.
- share_16: requests_s_16 / predictor_texts_s.
- p50_ms_1, p99_ms_1, p50_ms_16, p99_ms_16: time to an answer; p99_over_p50_16.

Rates are medians over rounds. Clients and service share the machine: what the clients take, a
service on a machine of its own would have.
"""

import argparse
import contextlib
import json
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

if __name__ == "__main__":  # this folder has a data_pipeline.py too: look from the root
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import report
from data_pipeline.base.errors import UserError, command
from finetune.deploy.predict import Predictor
from finetune.tasks import open_task
from finetune.tasks.settings import TaskSettings
from launch.nodes.addresses import free_port

ROOT = Path(__file__).parents[1]
LIBRARIES = ("openvino", "onnxruntime", "uvicorn", "httptools", "uvloop", "numpy")
HOST, BATCH, CLIENTS = "127.0.0.1", 16, (1, 16)
START_SECONDS, ANSWER_SECONDS = 120, 60
LENGTH = re.compile(rb"\ncontent-length: *(\d+)", re.IGNORECASE)


@command
def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write JSON."""
    arguments = parse(argv)
    texts = texts_of(arguments.texts)
    with contextlib.ExitStack() as stack:
        model = arguments.model
        if model is None:
            model = published_size(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        predictor = Predictor(model, arguments.threads, BATCH)
        port = stack.enter_context(service(model, arguments.threads))
        rounds = [
            measure_round(predictor, port, texts, arguments.requests)
            for _ in range(arguments.rounds + 1)
        ][1:]  # the first warms up
    figures = figures_of(rounds)
    for name, value in figures.items():
        print(f"{name}: {value}")
    report.write(arguments.json, figures, vars(arguments), LIBRARIES, rounds=rounds)
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "model", type=Path, nargs="?", help="a directory that export or quantise wrote"
    )
    parser.add_argument("--json", type=Path, help="write figures and raw rounds there")
    parser.add_argument("--texts", type=Path, help="one text a line; default: titles of iNEWS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=800, help="requests a round and client set")
    return parser.parse_args(argv)


def published_size(root: Path) -> Path:
    """The product of benchmarks/inference.py, with random weights, in `root`."""
    from benchmarks import inference

    inference.write_vocab(root / "vocab.txt")
    examples = open_task(TaskSettings(name="inews")).split("test")[: inference.TITLES]
    mini = inference.random_classifier("PPMiniLMModel", 6, "relu")
    return inference.write_product(root, examples, mini)


def texts_of(path: Path | None) -> list[str]:
    """The texts that are sent, over and over."""
    if path is None:
        return [example.text for example in open_task(TaskSettings(name="inews")).split("test")]
    texts = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not texts:
        raise UserError(f"{path}: no text in it")
    return texts


@contextlib.contextmanager
def service(model: Path, threads: int) -> Iterator[int]:
    """The port of a service that runs as users start it; it is stopped at the end."""
    port = free_port(HOST)
    arguments = ["serve", str(model), "--port", str(port), "--threads", str(threads)]
    process = subprocess.Popen(
        [sys.executable, "-m", "finetune", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_healthy(process, port)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=60)


def wait_until_healthy(process: subprocess.Popen, port: int) -> None:
    """UserError when the service ends, or does not answer in time."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise UserError(f"the service ended:\n{process.stderr.read()[-1000:]}")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise UserError(f"the service did not answer within {START_SECONDS} s")


def measure_round(predictor: Predictor, port: int, texts: list[str], requests: int) -> dict:
    """One turn of everything that is compared: rates, and milliseconds of each request."""
    sent = [texts[number % len(texts)] for number in range(requests)]
    messages = [request_of(text) for text in sent]
    began = time.perf_counter()
    for start in range(0, requests, BATCH):
        predictor.predict(sent[start : start + BATCH])
    measured = {"predictor_texts_s": requests / (time.perf_counter() - began)}
    for clients in CLIENTS:
        began = time.perf_counter()
        times = send_all(port, messages, clients)
        measured[f"requests_s_{clients}"] = requests / (time.perf_counter() - began)
        measured[f"milliseconds_{clients}"] = [round(1e3 * seconds, 3) for seconds in times]
    return measured


def send_all(port: int, requests: list[bytes], clients: int) -> list[float]:
    """Seconds of each request, with so many clients at a time."""
    shares = [requests[number::clients] for number in range(clients)]
    opened = [Client(port, share) for share in shares if share]
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as sockets:
        for client in opened:
            sockets.enter_context(client.socket)
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.send()
        while selector.get_map():
            ready = selector.select(ANSWER_SECONDS)
            if not ready:
                raise UserError(f"the service gave no answer within {ANSWER_SECONDS} s")
            for key, _ in ready:
                if not key.data.receive():
                    selector.unregister(key.fileobj)
    return [seconds for client in opened for seconds in client.times]


class Client:
    """Sends its requests one after the other over one connection; `times`: seconds of each.

    Plain sockets, since clients and service share the processor: an asyncio stream takes several
    times as long.
    """

    def __init__(self, port: int, requests: list[bytes]):
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.left = iter(requests)
        self.times: list[float] = []
        self.answer = b""
        self.began = 0.0

    def send(self) -> bool:
        """Send the next request; whether there was one."""
        request = next(self.left, None)
        if request is None:
            return False
        self.began = time.perf_counter()
        self.socket.sendall(request)
        return True

    def receive(self) -> bool:
        """Take what came, and send the next request after a whole answer; False at the end."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise UserError(f"the service closed a connection after {self.answer[:200]!r}")
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        if not end or len(body) < length_of(head):
            return True
        self.times.append(time.perf_counter() - self.began)
        if not head.startswith(b"HTTP/1.1 200"):
            raise UserError(f"the service answered {head[:40]!r}: {body[:200]!r}")
        self.answer = b""
        return self.send()


def request_of(text: str) -> bytes:
    """The bytes of a request for one text."""
    body = json.dumps({"texts": [text]}).encode()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def length_of(head: bytes) -> int:
    """Content-Length of an answer's head."""
    found = LENGTH.search(head)
    if found is None:
        raise UserError(f"an answer without a length: {head[:200]!r}")
    return int(found[1])


def figures_of(rounds: list[dict]) -> dict[str, float]:
    """Medians of the rounds' rates, and percentiles over all requests."""

    def middle(name: str) -> float:
        return float(np.median([measured[name] for measured in rounds]))

    figures = {"predictor_texts_s": round(middle("predictor_texts_s"), 1)}
    for clients in CLIENTS:
        figures[f"requests_s_{clients}"] = round(middle(f"requests_s_{clients}"), 1)
        times = np.concatenate([measured[f"milliseconds_{clients}"] for measured in rounds])
        p50, p99 = np.percentile(times, [50, 99])
        figures |= {f"p50_ms_{clients}": round(p50, 3), f"p99_ms_{clients}": round(p99, 3)}
    shares = [measured["requests_s_16"] / measured["predictor_texts_s"] for measured in rounds]
    figures["share_16"] = round(float(np.median(shares)), 3)
    figures["p99_over_p50_16"] = round(figures["p99_ms_16"] / figures["p50_ms_16"], 3)
    return {name: float(value) for name, value in figures.items()}


if __name__ == "__main__":
    sys.exit(main())
