"""A graph that takes strings: ids are those of the project's tokenizer, which are PaddleNLP's
(tests/data_pipeline/text/test_encode.py), and answers those of the model inside."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.text import tokenizer
from data_pipeline.text.encode import WordPieceEncoder
from finetune import stages
from finetune.__main__ import main
from finetune.deploy import text_in
from finetune.deploy.onnx_session import open_session
from finetune.deploy.predict import Predictor
from finetune.deploy.text_graph import tokenizer_graph
from finetune.recipes import TextInRecipe
from tests.data_pipeline.text.test_encode import TRICKY
from tests.docs.pages import ROOT

TEACHER = ROOT / "assets" / "teacher"  # 8,000 tokens of Chinese text
HARD = [text.encode("utf-8", "ignore").decode() for text in TRICKY]  # lone surrogates are no UTF-8
LENGTH = 24


class Graph:
    """A tokenizer's graph, and the encoder that it must equal."""

    def __init__(self, directory, pairs: bool):
        model = tokenizer_graph(directory, LENGTH, pairs, {}, 8)
        self.session = open_session(model.SerializeToString())
        self.encoder, self.pairs = WordPieceEncoder.of_directory(directory), pairs

    def assert_equal(self, texts, pairs=None):
        pairs = list(pairs or [None] * len(texts))
        rows = self.session.run(None, text_in.feed(texts, pairs, self.pairs))
        wanted = [
            [
                values[0]
                for values in self.encoder.classify([text], [pair] if pair else None, LENGTH)
            ]
            for text, pair in zip(texts, pairs, strict=True)
        ]
        longest = max(len(ids) for ids, _ in wanted)
        for place, values in enumerate(rows):
            padded = [row[place] + [0] * (longest - len(row[place])) for row in wanted]
            assert values.tolist() == padded, [ascii(text)[:60] for text in texts]


@pytest.fixture(scope="module")
def single():
    return Graph(TEACHER, pairs=False)


@pytest.fixture(scope="module")
def paired():
    return Graph(TEACHER, pairs=True)


def test_hard_texts_alone_and_in_one_batch(single):
    single.assert_equal(HARD)
    for text in HARD:
        single.assert_equal([text])


def test_hard_pairs_are_cut_from_the_longer_one(paired):
    paired.assert_equal(HARD, HARD[::-1])
    for a, b in ((10, 11), (11, 10), (10, 50), (50, 10), (50, 50), (21, 0), (0, 30)):
        paired.assert_equal(["天" * a], ["气" * b])
    paired.assert_equal(["今天", "天气", "很好"], ["", "很好", ""])  # with and without one


def test_characters_of_all_kinds_inside_a_word(single):
    random = np.random.default_rng(0)
    codes = [*range(1, 0x600), *random.integers(0x600, 0x110000, 1500).tolist()]
    codes += random.integers(0x600, 0xFFFF, 1500).tolist()
    texts = [f"a{chr(code)}b c{chr(code)}" for code in codes if not 0xD800 <= code < 0xE000]
    for start in range(0, len(texts), 512):
        single.assert_equal(texts[start : start + 512])


words = st.lists(
    st.one_of(
        st.sampled_from(
            ["[CLS]", "[SEP]", "[MASK]", "[PAD", "]", "good", "ING", "##", "２０", "é"]
        ),
        st.sampled_from("今天气 \t，。abcABCß１가がé😀\u200b\u0301\ue000"),
        st.text(max_size=3).map(lambda text: text.encode("utf-8", "ignore").decode()),
    ),
    max_size=20,
).map("".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_any_texts_and_pairs(paired, rows):
    paired.assert_equal([text for text, _ in rows], [pair for _, pair in rows])


def test_a_cased_vocabulary(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"AaBÉ天", "##a", "##B", "aB", "##Ba"]
    tokenizer.write(tmp_path, tokens, lower_case=False)
    Graph(tmp_path, pairs=False).assert_equal(["aBa ABaB Éa éa 天aBa", "AE\u0301 [mask][MASK]"])


@pytest.fixture(scope="module")
def both_forms(workshop, onnx_dir, int8_dir):
    """(deployable directory, its text-in directory), FP32 and INT8."""
    made = []
    for name, model in (("fp32", onnx_dir), ("int8", int8_dir)):
        recipe = TextInRecipe(output_dir=workshop / f"text-{name}", model=model, pairs=True)
        made.append((model, stages.text_in(recipe)))
    return made


def test_the_answers_are_the_predictor_s(both_forms):
    texts = ["今晴是很好", "股是很不好他", "我雨在有和 ABC", "他在涨了的" * 20]
    for model, directory in both_forms:
        session = open_session(directory / "text.onnx")
        names = [output.name for output in session.get_outputs()]
        given = text_in.feed(texts, [None, "天气", None, "股"], True)
        values = dict(zip(names, session.run(None, given), strict=True))
        predicted = Predictor(model).predict(texts, [None, "天气", None, "股"])
        assert values["label"].tolist() == [one.label for one in predicted]
        wanted = [list(one.probabilities.values()) for one in predicted]
        np.testing.assert_allclose(values["probabilities"], wanted, atol=1e-4)
        about = session.get_modelmeta().custom_metadata_map
        assert json.loads(about["labels"]) == list(predicted[0].probabilities)
        assert json.loads(about["kind"]) == "classification"


# docs/deployment.md has this as a table
MASKS_AND_SYMBOLS = ("你[MASK]", "价格￥100", "37°C")
ACCENTS_AND_CONTROLS = ("が", "Ё", "ỹ", "İ", "≠", "\ue000a", "中\ufffd文", "a\u2028b")


@pytest.mark.parametrize("text", MASKS_AND_SYMBOLS + ACCENTS_AND_CONTROLS, ids=ascii)
def test_the_operator_of_onnxruntime_extensions_gives_other_ids(text, single):
    """Why the graph does without it. If this fails, that library has changed."""
    from onnxruntime_extensions import get_library_path

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "ai.onnx.contrib": 1]>
        bert (string[N] text) => (int64[L] ids) {
            ids, types, mask = ai.onnx.contrib.BertTokenizer
                <do_lower_case = 1, strip_accents = 1, max_length = -1> (text)
        }"""
    )
    vocabulary = (TEACHER / "vocab.txt").read_text(encoding="utf-8")
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("vocab_file", vocabulary))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    theirs = session.run(None, {"text": np.array([text], object)})[0].tolist()
    assert theirs != single.encoder.classify([text], None, LENGTH)[0][0]
    single.assert_equal([text])


def counting_model(columns: int):
    """A model whose outputs are the number of tokens and the sum of the types, or the first."""
    output = "Concat <axis = 1> (count, types_sum)" if columns == 2 else "Identity (count)"
    return onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        model (int64[N, L] input_ids, int64[N, L] token_type_ids) => (float[N, C] out) {
            last = Constant <value_ints = [-1]> ()
            zero = Constant <value = int64 {0}> ()
            is_token = Greater (input_ids, zero)
            tokens = Cast <to = 1> (is_token)
            types = Cast <to = 1> (token_type_ids)
            count = ReduceSum (tokens, last)
            types_sum = ReduceSum (types, last)
            out = OUTPUT
        }""".replace("OUTPUT", output)
    )


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("embedding", {"vectors": [[4, 0], [7, 3]]}),
        ("multi_label", {"chosen": [[True, False], [True, True]]}),
        ("regression", {"score": [4, 7]}),
        ("classification", {"logits": [[4, 0], [7, 3]], "label": ["a", "a"]}),
    ],
)
def test_each_kind_gives_its_answers(kind, wanted):
    answers = text_in.answer_graph(kind, ["a", "b"], {"threshold": 0.8}, 8)
    tokens = tokenizer_graph(TEACHER, LENGTH, True, {}, 8)
    joined = text_in.joined_graphs(
        tokens, counting_model(1 if kind == "regression" else 2), answers
    )
    session = open_session(joined.SerializeToString())
    given = text_in.feed(["今天", "今天"], [None, "天气"], True)
    for name, values in wanted.items():
        assert session.run([name], given)[0].tolist() == values


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "tokens"}, "kind 'tokens'; text-in graphs are for classification"),
        ({"backend": "paddle_inference"}, "made for paddle_inference; a text-in graph"),
        ({"kind": "embedding"}, "pairs: true does not fit"),
    ],
)
def test_what_has_no_text_in_graph_is_refused(changes, says, onnx_dir, tmp_path, capsys):
    model = shutil.copytree(onnx_dir, tmp_path / "model")
    deploy = json.loads((model / "deploy.json").read_text()) | changes
    (model / "deploy.json").write_text(json.dumps(deploy))
    assert main(["text_in", str(model), "--output_dir", f"{tmp_path}/out", "--pairs", "true"]) != 0
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_graph_that_differs_from_its_model_is_refused(both_forms):
    """The FP32 model's text-in graph is not the INT8 model's."""
    (_, fp32), (int8_model, int8) = both_forms
    recipe = check(TextInRecipe, {"output_dir": "x", "model": str(int8_model), "pairs": True}, "")
    tokens = tokenizer_graph(int8_model, 16, True, {}, 8).SerializeToString()
    text_in.check_text_in(recipe, 16, tokens, int8 / "text.onnx")
    with pytest.raises(UserError, match="outputs differ by"):
        text_in.check_text_in(recipe, 16, tokens, fp32 / "text.onnx")
    shorter = tokenizer_graph(int8_model, 12, True, {}, 8).SerializeToString()
    with pytest.raises(UserError, match="other ids than the tokenizer"):
        text_in.check_text_in(recipe, 16, shorter, int8 / "text.onnx")


def test_the_client_in_cpp_gives_the_predictor_s_answers(onnx_dir, workshop, tmp_path):
    """Compiled against ONNX Runtime's header, which its wheel lacks, and the wheel's library."""
    include, compiler = header_directory(), shutil.which("g++")
    if include is None or compiler is None:
        pytest.skip("needs g++, and onnxruntime_c_api.h in $ONNXRUNTIME_INCLUDE or /usr/include")
    library = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)  # the name that the library has inside
    client, source = tmp_path / "classify", ROOT / "docs" / "examples" / "classify.cpp"
    command = [compiler, "-std=c++17", "-Wall", "-Werror", "-I", include, source]
    subprocess.run([*command, tmp_path / "libonnxruntime.so.1", "-o", client], check=True)
    recipe = TextInRecipe(output_dir=workshop / "text-single", model=onnx_dir)
    graph = stages.text_in(recipe) / "text.onnx"
    texts = ["今晴是很好", "股是很不好他", "我雨在有和 ABC", "他在涨了的"] * 20
    output = subprocess.run(
        [client, graph],
        input="".join(f"{text}\n" for text in texts),
        env={"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split("\t") for line in output.splitlines()]
    predicted = Predictor(onnx_dir).predict(texts)
    assert [(label, text) for label, _, text in rows] == [
        (one.label, text) for one, text in zip(predicted, texts, strict=True)
    ]
    np.testing.assert_allclose(
        [float(row[1]) for row in rows], [one.probability for one in predicted], atol=2e-4
    )


def header_directory() -> str | None:
    """Where onnxruntime_c_api.h is, if anywhere."""
    places = (os.environ.get("ONNXRUNTIME_INCLUDE"), "/usr/include/onnxruntime", "/usr/include",
              "/usr/local/include/onnxruntime", "/usr/local/include")  # fmt: skip
    return next((p for p in places if p and (Path(p) / "onnxruntime_c_api.h").is_file()), None)
