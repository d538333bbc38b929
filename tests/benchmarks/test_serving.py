"""The load test's arithmetic, and a small one against a real service."""

import json
import socket
import threading
import time

import pytest

from benchmarks import serving
from data_pipeline.base.errors import UserError
from tests.finetune.conftest import write_encoder


def test_figures_are_medians_of_rounds_and_percentiles_of_all_requests():
    rounds = [
        {
            "predictor_texts_s": texts,
            "requests_s_1": 10.0,
            "requests_s_16": rate,
            "milliseconds_1": [1.0, 1.0],
            "milliseconds_16": times,
        }
        for texts, rate, times in (
            (100, 90, [2.0] * 99),
            (200, 100, [2.0] * 99),
            (100, 80, [9.0] * 3),
        )
    ]
    figures = serving.figures_of(rounds)
    assert (figures["predictor_texts_s"], figures["requests_s_16"]) == (100, 90)
    assert figures["share_16"] == 0.8  # 0.9, 0.5 and 0.8
    assert (figures["p50_ms_16"], figures["p99_over_p50_16"]) == (2.0, 4.5)


def test_bytes_of_requests_and_lengths_of_answers():
    head, body = serving.request_of("雨").split(b"\r\n\r\n")
    assert json.loads(body) == {"texts": ["雨"]}
    assert serving.length_of(head + b"\r\n\r\n") == len(body)
    with pytest.raises(UserError, match="without a length"):
        serving.length_of(b"HTTP/1.1 200 OK\r\n\r\n")


def answering(answers: list[list[bytes]]) -> int:
    """The port of a server for one client: the parts of each answer, a moment apart."""
    listening = socket.create_server((serving.HOST, 0))

    def serve() -> None:
        with listening, listening.accept()[0] as connection:
            for parts in answers:
                connection.recv(1 << 16)
                for part in parts:
                    connection.sendall(part)
                    time.sleep(0.02)

    threading.Thread(target=serve, daemon=True).start()
    return listening.getsockname()[1]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


def test_a_client_waits_for_whole_answers():
    port = answering([[HEAD + b"null"], [HEAD[:20], HEAD[20:], b"nu", b"ll"]])
    seconds = serving.send_all(port, [serving.request_of("雨")] * 2, 1)
    assert seconds[1] > 0.06  # three pauses


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([HEAD.replace(b"200 OK", b"503 Busy") + b"null"], "503 Busy"),
        ([HEAD + b"nu"], "closed a connection"),
        ([], "closed a connection"),
    ],
)
def test_a_client_takes_no_failure_for_an_answer(parts, reason):
    with pytest.raises(UserError, match=reason):
        serving.send_all(answering([parts]), [serving.request_of("雨")], 16)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from finetune.training import classifier

    root = tmp_path_factory.mktemp("serving")
    encoder = write_encoder(root / "encoder", layers=1)
    fresh = classifier.from_encoder(encoder, 2)
    classifier.save(fresh, root / "model", ["a", "b"], encoder, {"max_length": 16})
    return root / "model"


def test_a_small_load_against_a_service_as_users_start_it(model, tmp_path):
    texts, output = tmp_path / "texts.txt", tmp_path / "serving.json"
    texts.write_text("今晴是很好\n股是很不好他\n", encoding="utf-8")
    arguments = [str(model), "--texts", str(texts), "--json", str(output)]
    assert serving.main([*arguments, "--rounds", "1", "--requests", "40"]) == 0
    content = json.loads(output.read_text())
    assert content["figures"].keys() == {
        *("predictor_texts_s", "requests_s_1", "p50_ms_1", "p99_ms_1"),
        *("requests_s_16", "p50_ms_16", "p99_ms_16", "share_16", "p99_over_p50_16"),
    }
    (measured,) = content["rounds"]
    assert len(measured["milliseconds_1"]) == len(measured["milliseconds_16"]) == 40
    assert min(measured["milliseconds_16"]) > 0


def test_a_service_that_cannot_start_says_why(model, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("今\n", encoding="utf-8")
    with pytest.raises(UserError, match="the service ended"), serving.service(tmp_path, 2):
        pass
