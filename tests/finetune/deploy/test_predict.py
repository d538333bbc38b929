"""Every backend gives the dynamic model's logits; text goes in, labels come out."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from finetune.__main__ import main
from finetune.deploy.predict import Predictor, softmax

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
        ("labels.json", b'["one"]', "two or more label names"),
        ("deploy.json", b"", r"deploy\.json: missing or not JSON"),
        ("vocab.txt", None, r"vocab\.txt"),
    ],
)
def test_a_damaged_directory_is_a_users_error(name, content, message, tmp_path, onnx_dir):
    shutil.copytree(onnx_dir, tmp_path / "m")
    corrupt(tmp_path / "m", name, content)
    with pytest.raises(UserError, match=message):
        Predictor(tmp_path / "m")


def test_the_command_reads_arguments_files_and_pairs(onnx_dir, tmp_path, capsys):
    assert main(["predict", str(onnx_dir), TEXTS[0], "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["label"] == "weather"
    (tmp_path / "in.txt").write_text("\n\n".join(TEXTS[:2]), encoding="utf-8")
    assert main(["predict", str(onnx_dir), "--input", str(tmp_path / "in.txt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["weather", "money"]
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
