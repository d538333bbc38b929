"""What is written for transformers computes the same: here, in numpy, and in transformers."""

import json
import sys

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.base.errors import UserError
from data_pipeline.text import tokenizer
from data_pipeline.text.encode import WordPieceEncoder
from data_pipeline.text.vocab import SPECIAL
from pretrain.encoders import weights
from pretrain.encoders.load import build_encoder, load_encoder
from pretrain.encoders.states import attention_bias, states_at
from pretrain.release import hugging_face
from pretrain.release.onnx_features import write_onnx_features
from pretrain.release.tokenizer_json import write_tokenizer_json
from tests import with_transformers
from tests.pretrain import foreign, tiny

INPUT_IDS = np.array([[2, 7, 9, 30, 3, 0, 0], [2, 8, 39, 11, 12, 13, 3]])
MASK = (INPUT_IDS != 0).astype(np.int64)
MAX_LENGTH = 24
LETTERS = [*"abcdeé中国的，。①℃$+A", "##a", "##b", "##c", "##é", "##A"]
TOKENS = [*SPECIAL.values(), *LETTERS]


def new_encoder(family="PPMiniLM", act="relu", **more):
    paddle.seed(5)
    config = {"architectures": [f"{family}Model"], "vocab_size": len(tiny.TOKENS)}
    config |= tiny.sizes(3, 12, act) | {"initializer_range": 0.3, "pad_token_id": 0, **more}
    encoder = build_encoder(config)
    encoder.eval()
    return encoder


def write(encoder, directory):
    return hugging_face.write_hugging_face(encoder, directory, tiny.TOKENS, True, MAX_LENGTH)


def all_states(encoder):
    ids, mask = paddle.to_tensor(INPUT_IDS), paddle.to_tensor(MASK)
    layers = len(encoder.encoder.layers)
    states = [states_at(encoder, ids, mask, n + 1, with_hidden=True) for n in range(layers)]
    return np.stack([x.numpy() for state in states for x in state])


@pytest.mark.parametrize(
    ("family", "act", "more"),
    [
        ("PPMiniLM", "relu", {}),
        ("PPMiniLM", "gelu", {}),
        ("Bert", "gelu", {"layer_norm_eps": 1e-6}),
        ("Ernie", "gelu", {"use_task_id": True, "task_type_vocab_size": 3}),
    ],
)
def test_our_own_reader_gives_the_same_states_bit_for_bit(tmp_path, family, act, more):
    encoder = new_encoder(family, act, **more)
    files = write(encoder, tmp_path)
    assert {"config.json", "model.safetensors", "vocab.txt", "modules.json"} <= set(files)
    assert all((tmp_path / name).is_file() for name in files)
    loaded = load_encoder(tmp_path)
    assert type(loaded).__name__ == {"PPMiniLM": "BertModel"}.get(family, f"{family}Model")
    for name, value in encoder.state_dict().items():
        rows = slice(1, None) if "word_embeddings" in name else slice(None)  # 0 is the padding
        assert (loaded.state_dict()[name].numpy() == value.numpy())[rows].all(), name
    assert (all_states(loaded) == all_states(encoder)).all()


def test_names_and_values_are_those_of_hugging_face(tmp_path):
    """The same tensors go into BERT in numpy, which knows Hugging Face's names only."""
    encoder = new_encoder("Bert", "gelu")
    write(encoder, tmp_path)
    tensors = weights.read(tmp_path)
    expected = {
        name.removeprefix("bert.")
        for name in foreign.hugging_face_tensors()
        if name.startswith("bert.") and "position_ids" not in name
    }
    assert set(tensors) == expected
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "bert" and config["architectures"] == ["BertModel"]
    states = foreign.hidden_states(
        tensors, INPUT_IDS, MASK, prefix="", epsilon=config["layer_norm_eps"]
    )
    own = all_states(encoder)[3::4]
    np.testing.assert_allclose(own[:, MASK == 1], states[1:][:, MASK == 1], atol=1e-4)


def test_the_students_relu_and_epsilon_are_stated(tmp_path):
    encoder = new_encoder()
    write(encoder, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["hidden_act"] == "relu"
    assert config["layer_norm_eps"] == encoder.embeddings.layer_norm._epsilon


def test_what_transformers_cannot_express_is_refused(tmp_path):
    config = {"architectures": ["RobertaModel"], "vocab_size": 64, "pad_token_id": 1}
    with pytest.raises(UserError, match="Roberta encoders cannot be written"):
        write(build_encoder(config | tiny.sizes(1, 12)), tmp_path)
    with pytest.raises(UserError, match="pool_act 'relu'"):
        write(new_encoder("Bert", "gelu", pool_act="relu"), tmp_path)
    pruned = new_encoder()
    pruned.encoder.layers[1].linear1 = paddle.nn.Linear(12, 7)
    with pytest.raises(UserError, match="layer 2 has 2 heads and 7 feed-forward neurons"):
        write(pruned, tmp_path)


def test_sentence_transformers_pools_the_mean(tmp_path):
    write(new_encoder(), tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    assert [module["type"].rsplit(".", 1)[1] for module in modules] == ["Transformer", "Pooling"]
    pooling = json.loads((tmp_path / modules[1]["path"] / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 12
    assert pooling["pooling_mode_mean_tokens"] is True


@pytest.fixture(scope="module", params=[True, False], ids=["lower case", "cased"])
def tokenizers(request, tmp_path_factory):
    """(this project's encoder, the one of tokenizer.json)."""
    from tokenizers import Tokenizer

    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.write(directory, TOKENS, request.param)
    write_tokenizer_json(directory / "tokenizer.json", TOKENS, request.param)
    library = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return WordPieceEncoder.of_directory(directory), library


LETTERS_OF_TEXTS = "abcdeABCÉé\u0301中国的龘，。！①℃$+^~㎡〇ŋ²\u3000 \t1x[]"
TEXT = st.text(st.sampled_from(LETTERS_OF_TEXTS), max_size=12)


@settings(deadline=None, max_examples=200)
@given(text=TEXT)
def test_tokenizer_json_gives_the_ids_of_the_shards(tokenizers, text):
    own, library = tokenizers
    assert library.encode(text, add_special_tokens=False).ids == own.ids([text])[0].tolist()


def test_tokenizer_json_marks_texts_and_pairs(tokenizers):
    own, library = tokenizers
    for pair in (None, "国 c"):
        encoded = library.encode("中a", pair)
        ids, types = own.classify(["中a"], None if pair is None else [pair], 32)
        assert (encoded.ids, encoded.type_ids) == (ids[0], types[0])


TRANSFORMERS_SCRIPT = """
import sys
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
directory, inputs, output = sys.argv[1:]
arrays = dict(np.load(inputs))
model = AutoModel.from_pretrained(directory).eval()
ids, mask = (torch.tensor(arrays[name]) for name in ("input_ids", "mask"))
with torch.no_grad():
    out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
tokenizer = AutoTokenizer.from_pretrained(directory)
text = tokenizer("\\u4e03\\u4e05 \\u4e01\\u2103", "\\u4e08")
results = {
    "states": np.stack([x.numpy() for x in out.hidden_states]),
    "pooled": out.pooler_output.numpy(),
    "ids": np.array(text["input_ids"]),
    "types": np.array(text["token_type_ids"]),
    "longest": np.array(tokenizer.model_max_length),
}
try:
    from sentence_transformers import SentenceTransformer
    sentences = ["\\u4e03\\u4e05", "\\u4e01\\u4e03\\u4e0a"]
    results["sentences"] = SentenceTransformer(directory, device="cpu").encode(sentences)
except ImportError:
    pass
np.savez(output, **results)
"""


@with_transformers.needed
@pytest.mark.parametrize(("family", "act"), [("PPMiniLM", "relu"), ("Bert", "gelu")])
def test_transformers_computes_the_same(tmp_path, family, act):
    encoder = new_encoder(family, act)
    write(encoder, tmp_path / "model")
    np.savez(tmp_path / "in.npz", input_ids=INPUT_IDS, mask=MASK)
    out = tmp_path / "out.npz"
    with_transformers.run(TRANSFORMERS_SCRIPT, tmp_path / "model", tmp_path / "in.npz", out)
    results = dict(np.load(out))
    real = MASK == 1
    expected = all_states(encoder)[3::4]
    np.testing.assert_allclose(results["states"][1:][:, real], expected[:, real], atol=1e-5)
    pooled = encoder.pooler(paddle.to_tensor(expected[-1])).numpy()
    np.testing.assert_allclose(results["pooled"], pooled, atol=1e-5)
    own = WordPieceEncoder.of_directory(tmp_path / "model")
    ids, types = own.classify(["\u4e03\u4e05 \u4e01\u2103"], ["\u4e08"], 32)
    assert results["ids"].tolist() == ids[0] and results["types"].tolist() == types[0]
    assert results["longest"] == MAX_LENGTH
    if "sentences" in results:
        texts = ["\u4e03\u4e05", "\u4e01\u4e03\u4e0a"]
        for text, vector in zip(texts, results["sentences"], strict=True):
            rows, _ = own.classify([text], None, 32)
            batch = paddle.to_tensor(rows)
            state = states_at(encoder, batch, paddle.ones_like(batch), 3, with_hidden=True)[3]
            np.testing.assert_allclose(vector, state.numpy()[0].mean(0), atol=1e-5)


@pytest.mark.parametrize(("family", "act"), [("PPMiniLM", "relu"), ("Bert", "gelu")])
def test_onnx_feature_extraction_gives_the_same_states(tmp_path, family, act):
    import onnx
    import onnxruntime

    encoder = new_encoder(family, act)
    words = hugging_face.hugging_face_tensors(encoder)[hugging_face.WORDS]
    write_onnx_features(encoder, words, tmp_path / "onnx" / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "onnx" / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    types = np.zeros_like(INPUT_IDS)
    types[1, 3:] = 1
    (states,) = session.run(
        ["last_hidden_state"],
        {"input_ids": INPUT_IDS, "attention_mask": MASK, "token_type_ids": types},
    )
    ids, bias = paddle.to_tensor(INPUT_IDS), attention_bias(paddle.to_tensor(MASK))
    expected = encoder.embeddings(input_ids=ids, token_type_ids=paddle.to_tensor(types))
    for block in encoder.encoder.layers:
        expected = block(expected, bias)
    np.testing.assert_allclose(states[MASK == 1], expected.numpy()[MASK == 1], atol=1e-5)


def test_the_command_writes_it(tiny_root, tmp_path, capsys):
    from data_pipeline.base.recipes import check
    from data_pipeline.loading.order import World
    from data_pipeline.shards.format import Manifest
    from pretrain import __main__ as command
    from pretrain import run
    from pretrain.recipe import DistillRecipe
    from pretrain.training import loop

    values = tiny.distill_values(tiny_root, tmp_path / "run", **{"optimizer.total_steps": 3})
    recipe = check(DistillRecipe, values, "test")
    manifest = Manifest.read(recipe.data.shards)
    assert loop.fit(run.build(recipe, manifest), recipe, manifest, World()) == 0
    for form in ("hf", "paddlenlp"):
        output = str(tmp_path / form)
        arguments = ["release", str(tmp_path / "run"), "--output", output, "--format", form]
        assert command.main(arguments) == 0
    assert "AutoModel.from_pretrained" in capsys.readouterr().out
    one, other = (all_states(load_encoder(tmp_path / form)) for form in ("hf", "paddlenlp"))
    assert (one == other).all()
    card = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert "from transformers import AutoModel" in card
    assert "`onnx/model.onnx`: `" in card
    assert sys.modules.get("transformers") is None
