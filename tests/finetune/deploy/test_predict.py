"""Every backend gives the dynamic model's logits; text goes in, labels come out."""

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from finetune.__main__ import main
from finetune.deploy.answers import softmax
from finetune.deploy.predict import Predictor

TEXTS = ["今晴是很好", "股是很不好他", "我雨在有和", "他在涨了的"]


@pytest.fixture(scope="module")
def dynamic(classifier_dir):
    return Predictor(classifier_dir)


@pytest.mark.parametrize("kind", ["onnx_dir", "static_dir"])
@pytest.mark.parametrize("batch", [1, 2, 7, 33])
@pytest.mark.parametrize("length", [3, 16, 61, 128])
def test_backends_agree_over_batch_sizes_and_lengths(kind, batch, length, dynamic, request):
    deployed = request.getfixturevalue(kind)
    backend = Predictor(deployed).backend
    random = np.random.default_rng(batch * 1000 + length)
    ids = random.integers(5, 35, (batch, length))
    for row in range(1, batch):  # rows of many lengths
        ids[row, random.integers(2, length + 1) :] = 0
    types = (np.arange(length) > length // 2).astype(np.int64)[None].repeat(batch, 0)
    wanted = dynamic.backend.logits(ids, types)
    np.testing.assert_allclose(backend.logits(ids, types), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", ["classifier_dir", "onnx_dir", "static_dir", "int8_dir"])
def test_text_in_labels_out(kind, request):
    predictor = Predictor(request.getfixturevalue(kind))
    found = predictor.predict(TEXTS)
    assert [one.label for one in found] == ["weather", "money", "weather", "money"]
    for one in found:
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert one.probability == max(one.probabilities.values())


def test_order_is_kept_whatever_the_lengths(dynamic):
    texts = [TEXTS[i % 4] + "的" * (i * 5 % 11) for i in range(70)]
    together = dynamic.logits(texts)
    alone = np.concatenate([dynamic.logits([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_encoding_of_a_text_does_not_depend_on_its_neighbours(dynamic):
    alone = dynamic.logits(["今晴是很好"], [""])
    beside = dynamic.logits(["今晴是很好", "股是很不好他"], ["", "股票跌"])
    np.testing.assert_allclose(beside[:1], alone, atol=1e-6)


def test_no_thread_spins_after_a_call(onnx_dir):
    """It would take the core from whatever comes next, another model's call say."""
    backend = Predictor(onnx_dir, threads=2).backend
    ids = np.full((8, 64), 7)
    seconds = []
    for _ in range(5):
        backend.logits(ids, np.zeros_like(ids))
        before = time.process_time()
        time.sleep(0.02)
        seconds.append(time.process_time() - before)
    assert min(seconds) < 0.002


def test_softmax_of_large_logits():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0]])), [[0.5, 0.5]])


def test_100_000_characters_are_cut(dynamic):
    long = "今天晴" + "的" * 100_000
    np.testing.assert_allclose(
        dynamic.logits([long]), dynamic.logits(["今天晴" + "的" * 50]), atol=1e-6
    )


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_is_named(text, dynamic):
    with pytest.raises(UserError, match="text 2 is empty"):
        dynamic.predict(["今天晴", text])


def test_pairs_must_match(dynamic):
    with pytest.raises(UserError, match="1 texts but 2 pairs"):
        dynamic.predict(["a"], ["b", "c"])


def test_ids_are_those_of_paddlenlp(classifier_dir, dynamic):
    from paddlenlp.transformers import BertTokenizer

    from finetune.tasks import Example
    from finetune.training.batches import encode

    reference = BertTokenizer(str(classifier_dir / "vocab.txt"))
    pairs = [("今天晴 abc", "股票涨"), ("雨" * 30, "雪" * 5), ("风", "Abc123" * 9)]
    ours = encode(dynamic.encoder, [Example(*pair) for pair in pairs], 16)
    for (text, pair), ids, types in zip(pairs, ours.input_ids, ours.token_type_ids, strict=True):
        wanted = reference(text, pair, max_seq_len=16, truncation="longest_first")
        assert ids.tolist() == wanted["input_ids"]
        assert types.tolist() == wanted["token_type_ids"]


def corrupt(directory, name, content):
    path = directory / name
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.onnx", b"nonsense", "ONNX Runtime cannot open it"),
        ("model.onnx", None, "no such ONNX file"),
        ("labels.json", b"{", r"labels\.json: missing or not JSON"),
        ("labels.json", b'["one"]', "2 or more different label names"),
        ("deploy.json", b"", r"deploy\.json: missing or not JSON"),
        ("labels.json", b'["a", "a"]', "2 or more different label names"),
        ("labels.json", b'{"a": 1}', "2 or more different label names"),
        ("labels.json", b'["a", "b", "c"]', "has 3 labels, the model 2 classes"),
        ("deploy.json", b"[1]", r"deploy\.json: must be a JSON object"),
        ("deploy.json", b'{"backend": "tvm", "max_length": 9}', "'tvm' is not one of onnxruntime"),
        ("deploy.json", b'{"backend": "onnxruntime", "max_length": "9"}', "max_length '9'"),
        ("deploy.json", b'{"backend": "onnxruntime", "max_length": %d}' % 10**30, "more than 4096"),
        ("deploy.json", b"[" * 100_000, "missing or not JSON"),
        ("deploy.json", b'{"backend": []}', r"backend \[\] is not a name"),
        ("deploy.json", b'{"backend": "onnxruntime", "kind": {}}', r"kind {} is not a name"),
        ("vocab.txt", None, r"vocab\.txt"),
    ],
)
def test_a_damaged_directory_is_a_users_error(name, content, message, tmp_path, onnx_dir):
    shutil.copytree(onnx_dir, tmp_path / "m")
    corrupt(tmp_path / "m", name, content)
    with pytest.raises(UserError, match=message):
        Predictor(tmp_path / "m").predict(["今天晴"])


@pytest.mark.parametrize("content", [b"[1]", b"{", b'{"max_length": -1}'])
def test_a_damaged_result_is_a_users_error(content, tmp_path, classifier_dir):
    shutil.copytree(classifier_dir, tmp_path / "c")
    (tmp_path / "c" / "result.json").write_bytes(content)
    with pytest.raises(UserError, match=r"result\.json"):
        Predictor(tmp_path / "c")


def test_an_onnx_file_with_other_types_is_named(tmp_path, onnx_dir):
    from onnx import TensorProto, helper, save

    shutil.copytree(onnx_dir, tmp_path / "m")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None])
        for name in ("input_ids", "token_type_ids", "logits")
    ]
    node = helper.make_node("Add", ["input_ids", "token_type_ids"], ["logits"])
    graph = helper.make_graph([node], "g", ends[:2], ends[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(tmp_path / "m" / "model.onnx"))
    with pytest.raises(UserError, match=r"not tensor\(int64\)"):
        Predictor(tmp_path / "m")


def test_lines_stay_aligned_with_their_input(onnx_dir, tmp_path, capsys):
    rows = [(TEXTS[0], None), None, (TEXTS[1] + "\u2028很", None), ("今", "晴\x0c好"), None]
    rows.append((TEXTS[3], None))
    lines = ["\t".join(filter(None, row)) if row else " " for row in rows]
    (tmp_path / "in.txt").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    command = ["predict", str(onnx_dir), "--input", str(tmp_path / "in.txt")]
    predictor = Predictor(onnx_dir)
    expected = [predictor.predict([row[0]], [row[1]])[0] if row else None for row in rows]
    assert main(command) == 0
    shown = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert [line.split("\t")[0] for line in shown] == [e.label if e else "" for e in expected]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    for row, prediction in zip(found, expected, strict=True):
        assert row.get("label") == (prediction and prediction.label)
        if prediction:
            assert row["probability"] == pytest.approx(prediction.probability, abs=1e-5)


def test_predictions_of_an_unlabelled_file_are_written(onnx_dir, tmp_path):
    rows = [{"id": number, "sentence": text} for number, text in enumerate(TEXTS)]
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["predict", str(onnx_dir), "--input", str(source), "--text", "sentence"]
    assert main([*command, "--output", str(output)]) == 0
    written = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["label"] for row in written] == ["weather", "money", "weather", "money"]
    assert [row["id"] for row in written] == [0, 1, 2, 3]
    assert main([*command[:-1], "text"]) == 2


def test_the_expected_encoding_is_named(onnx_dir, tmp_path, capsys):
    (tmp_path / "in.txt").write_bytes("今天晴".encode("gbk"))
    assert main(["predict", str(onnx_dir), "--input", str(tmp_path / "in.txt")]) == 2
    assert "must be UTF-8" in capsys.readouterr().err


def test_the_command_reads_arguments_files_and_pairs(onnx_dir, tmp_path, capsys):
    assert main(["predict", str(onnx_dir), TEXTS[0], "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["label"] == "weather"
    (tmp_path / "in.txt").write_text("\n\n".join(TEXTS[:2]), encoding="utf-8")
    assert main(["predict", str(onnx_dir), "--input", str(tmp_path / "in.txt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["weather", "", "money"]
    assert main(["predict", str(onnx_dir), "今天\t晴"]) == 0


def test_mistakes_end_with_2_and_no_trace(onnx_dir, tmp_path, capsys):
    assert main(["predict", str(tmp_path / "none"), "a"]) == 2
    assert main(["predict", str(onnx_dir), "--input", str(tmp_path / "none.txt")]) == 2
    (tmp_path / "r.yaml").write_text("encodr: x\noutput_dir: y\n")
    assert main(["train", "--config", str(tmp_path / "r.yaml")]) == 2
    shown = capsys.readouterr().err
    assert "did you mean 'encoder'" in shown
    assert "Traceback" not in shown


def test_predicting_needs_no_paddle(onnx_dir):
    code = (
        "import sys; from finetune.deploy.predict import Predictor; "
        f"Predictor({str(onnx_dir)!r}).predict(['今天晴']); "
        "assert 'paddle' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
