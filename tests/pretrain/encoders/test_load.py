"""Encoders from directories as others write them, held against an independent BERT in numpy."""

import json
import pickle
import shutil

import numpy as np
import paddle
import pytest

from data_pipeline.base.errors import UserError
from pretrain.encoders import config as encoder_files
from pretrain.encoders import load as teacher
from pretrain.encoders.states import states_at
from tests.pretrain import foreign, tiny

INPUT_IDS = np.array([[2, 7, 9, 30, 3, 0, 0], [2, 8, 39, 11, 12, 13, 3]])
MASK = (INPUT_IDS != 0).astype(np.int64)


def found_states(encoder):
    """What goes into each layer and what the last puts out, as `foreign.hidden_states` gives it."""
    ids, mask = paddle.to_tensor(INPUT_IDS), paddle.to_tensor(MASK)
    layers = len(encoder.encoder.layers)
    states = [states_at(encoder, ids, mask, n + 1, with_hidden=True)[3] for n in range(layers)]
    return np.stack([encoder.embeddings(input_ids=ids).numpy(), *(x.numpy() for x in states)])


def assert_same_states(encoder, tensors, **how):
    expected = foreign.hidden_states(tensors, INPUT_IDS, MASK, **how)
    real = MASK == 1
    np.testing.assert_allclose(found_states(encoder)[:, real], expected[:, real], atol=1e-4)
    assert not encoder.training


def test_a_hugging_face_roberta_wwm_directory_computes_what_bert_does(tmp_path):
    tensors = foreign.hugging_face_tensors()
    encoder = teacher.load_encoder(foreign.write(tmp_path, tensors))
    assert type(encoder).__name__ == "BertModel"
    assert_same_states(encoder, tensors)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_its_own_forward_computes_the_same(tmp_path):
    tensors = foreign.hugging_face_tensors()
    encoder = teacher.load_encoder(foreign.write(tmp_path, tensors))
    mask = paddle.to_tensor(MASK)
    states, _ = encoder(paddle.to_tensor(INPUT_IDS), attention_mask=mask.unsqueeze([1, 2]))
    expected = foreign.hidden_states(tensors, INPUT_IDS, MASK)[-1]
    np.testing.assert_allclose(states.numpy()[MASK == 1], expected[MASK == 1], atol=1e-4)


def test_the_layer_norms_epsilon_of_the_directory_counts(tmp_path):
    tensors = foreign.hugging_face_tensors(scale=0.02)
    foreign.write(tmp_path, tensors, layer_norm_eps=1e-5)
    assert_same_states(teacher.load_encoder(tmp_path), tensors, epsilon=1e-5)


def test_names_without_a_prefix_old_norm_names_and_no_pooler(tmp_path):
    tensors = foreign.hugging_face_tensors(prefix="")
    stored = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in tensors.items()
        if not name.startswith("pooler.")
    }
    encoder = teacher.load_encoder(foreign.write(tmp_path, stored, architectures=["BertModel"]))
    assert_same_states(encoder, tensors, prefix="")
    assert not encoder.pooler.dense.weight.any()


def test_fairseqs_roberta_counts_positions_from_after_the_padding_id(tmp_path):
    tensors = foreign.hugging_face_tensors("roberta.")
    foreign.write(
        tmp_path,
        tensors,
        architectures=["RobertaForMaskedLM"],
        model_type="roberta",
        pad_token_id=1,
    )
    encoder = teacher.load_encoder(tmp_path)
    assert type(encoder).__name__ == "RobertaModel"
    ids, mask = INPUT_IDS[1:], MASK[1:]
    actual = encoder.embeddings(input_ids=paddle.to_tensor(ids)).numpy()
    expected = foreign.hidden_states(tensors, ids, mask, prefix="roberta.", start=2)[0]
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_roberta_wwm_under_paddlenlps_name_counts_positions_from_0(tmp_path):
    """PaddleNLP 2.8's own RobertaModel counts them from 1, and cannot take 512 tokens."""
    tensors = foreign.hugging_face_tensors()
    encoder = teacher.load_encoder(foreign.write(tmp_path / "theirs", tensors))
    tiny.write_directory(encoder, tmp_path / "roberta", architectures=["RobertaModel"])
    loaded = teacher.load_encoder(tmp_path / "roberta")
    assert_same_states(loaded, tensors)


def test_ernie_with_task_types(tmp_path):
    tensors = foreign.hugging_face_tensors("ernie.", task_types=3)
    settings = {"use_task_id": True, "task_type_vocab_size": 3, "layer_norm_eps": 1e-5}
    foreign.write(
        tmp_path, tensors, architectures=["ErnieForMaskedLM"], model_type="ernie", **settings
    )
    encoder = teacher.load_encoder(tmp_path)
    assert type(encoder).__name__ == "ErnieModel"
    assert_same_states(encoder, tensors, prefix="ernie.", epsilon=1e-5, task=0)


def test_macbert_is_bert(tmp_path):
    """hfl/chinese-macbert-base's config.json and names of tensors."""
    tensors = foreign.hugging_face_tensors()
    tensors["cls.seq_relationship.weight"] = np.zeros([2, foreign.WIDTH], np.float32)
    foreign.write(tmp_path, tensors, pooler_num_fc_layers=3, architectures=["BertForMaskedLM"])
    assert_same_states(teacher.load_encoder(tmp_path), tensors)


@pytest.mark.parametrize("embedding_size", [foreign.WIDTH, 8])
@pytest.mark.parametrize("architecture", ["ElectraForPreTraining", "ElectraForMaskedLM", None])
def test_electra_projects_its_embeddings(tmp_path, embedding_size, architecture):
    tensors = foreign.electra_tensors(embedding_size)
    tensors["discriminator_predictions.dense.weight"] = np.zeros([12, 12], np.float32)
    names = [architecture] if architecture else None
    foreign.write(
        tmp_path,
        tensors,
        architectures=names,
        model_type="electra",
        embedding_size=embedding_size,
    )
    encoder = teacher.load_encoder(tmp_path)
    assert type(encoder).__name__ == "ElectraModel"
    mask = paddle.to_tensor(MASK)
    expected = foreign.hidden_states(tensors, INPUT_IDS, MASK, prefix="electra.")
    for number in (1, 2, 3):
        states = states_at(encoder, paddle.to_tensor(INPUT_IDS), mask, number, with_hidden=True)
        real = MASK == 1
        np.testing.assert_allclose(states[3].numpy()[real], expected[number][real], atol=1e-4)


def test_deberta_is_refused_with_the_reason(tmp_path):
    tensors = foreign.hugging_face_tensors("deberta.")
    foreign.write(
        tmp_path, tensors, architectures=["DebertaV2ForMaskedLM"], model_type="deberta-v2"
    )
    with pytest.raises(UserError, match="scores between content and relative positions"):
        teacher.load_encoder(tmp_path)


def test_several_files_and_an_index(tmp_path):
    from safetensors.numpy import save_file

    tensors = foreign.hugging_face_tensors()
    foreign.write(tmp_path, {})
    names = sorted(tensors)
    files = {"model-1-of-2.safetensors": names[::2], "model-2-of-2.safetensors": names[1::2]}
    for file, some in files.items():
        save_file({name: tensors[name] for name in some}, str(tmp_path / file))
    index = {name: file for file, some in files.items() for name in some}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert_same_states(teacher.load_encoder(tmp_path), tensors)
    (tmp_path / "model-2-of-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"names model-2-of-2\.safetensors, which is not there"):
        teacher.load_encoder(tmp_path)


@pytest.mark.parametrize("family", ["Bert", "Ernie", "PPMiniLM"])
def test_what_paddlenlp_saves_is_read_and_computes_the_same(tmp_path, family):
    import paddlenlp.transformers as library

    config = {**tiny.sizes(2, 16), "vocab_size": 50, "pad_token_id": 0, "type_vocab_size": 2}
    config |= {"initializer_range": 0.3}
    if family == "Ernie":
        config |= {"use_task_id": True, "task_id": 1}
    kind = getattr(library, f"{family}Model")
    stock = kind(kind.config_class(**config))
    stock.eval()
    stock.save_pretrained(str(tmp_path), safe_serialization=True)
    encoder = teacher.load_encoder(tmp_path)
    assert type(encoder) is kind
    expected = stock.embeddings(input_ids=paddle.to_tensor(INPUT_IDS))
    for block in stock.encoder.layers:
        expected = block(
            expected, paddle.to_tensor((MASK - 1) * 1e4).astype("float32")[:, None, None]
        )
    assert np.abs(found_states(encoder)[-1] - expected.numpy()).max() < 1e-6


@pytest.fixture
def pickled(tmp_path):
    """A directory with nothing but a pickle, as PaddleNLP keeps its models."""
    encoder = teacher.build_encoder(
        {"architectures": ["BertModel"], "vocab_size": 50, **tiny.sizes(2, 16)}
    )
    tiny.write_directory(encoder, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    paddle.save(encoder.state_dict(), str(tmp_path / "pickled" / "model_state.pdparams"))
    return tmp_path / "pickled", encoder


def test_a_pickle_is_refused_unless_it_is_named(pickled):
    directory, encoder = pickled
    with pytest.raises(UserError, match="is a pickle and may run any code"):
        teacher.load_encoder(directory)
    loaded = teacher.load_encoder(directory, "model_state.pdparams")
    for name, value in encoder.state_dict().items():
        assert (loaded.state_dict()[name].numpy() == value.numpy()).all()


def test_bfloat16_in_a_pickle_is_widened(pickled):
    directory, encoder = pickled
    exact = {name: value.numpy() for name, value in encoder.state_dict().items()}
    paddle.save(encoder.to(dtype="bfloat16").state_dict(), str(directory / "model_state.pdparams"))
    loaded = teacher.load_encoder(directory, "model_state.pdparams")
    for name, value in loaded.state_dict().items():
        assert value.dtype == paddle.float32
        np.testing.assert_allclose(value.numpy(), exact[name], rtol=2**-8)


class Dangerous:
    def __reduce__(self):
        return shutil.rmtree, ("/nowhere",)


def test_even_a_pickle_that_is_named_runs_nothing(pickled):
    file = pickled[0] / "model_state.pdparams"
    file.write_bytes(pickle.dumps({"weight": Dangerous()}))
    with pytest.raises(UserError, match=r"it asks for shutil\.rmtree"):
        teacher.load_encoder(pickled[0], "model_state.pdparams")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(UserError, match="not plain arrays"):
        teacher.load_encoder(pickled[0], "model_state.pdparams")
    file.write_bytes(pickle.dumps({"weight": [1, 2]}))
    with pytest.raises(UserError, match="'weight' is not an array"):
        teacher.load_encoder(pickled[0], "model_state.pdparams")


def test_pytorchs_pickle_is_not_read_even_if_it_is_named(pickled):
    (pickled[0] / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(UserError, match="not safetensors"):
        teacher.load_encoder(pickled[0], "pytorch_model.bin")


def test_a_hub_name_without_files_says_what_to_download_and_where_to_put_it():
    with pytest.raises(UserError) as caught:
        teacher.load_encoder("hfl/chinese-roberta-wwm-ext-large")
    message = str(caught.value)
    assert "no such directory" in message
    assert "huggingface-cli download hfl/chinese-roberta-wwm-ext-large" in message
    assert "--local-dir models/chinese-roberta-wwm-ext-large" in message
    assert "--teacher.path models/chinese-roberta-wwm-ext-large" in message
    assert "save_pretrained" in message
    with pytest.raises(UserError, match=r"hfl/chinese-roberta-wwm-ext-large config\.json"):
        teacher.load_encoder("models/roberta-wwm-ext-large")
    with pytest.raises(UserError, match=r"n, d = 'ernie-3[.]0-base-zh', 'models/ernie"):
        teacher.load_encoder("models/ernie-3.0-base-zh")


def test_the_names_to_download_are_names_that_paddlenlp_knows():
    from paddlenlp.transformers import RobertaPretrainedModel

    known = RobertaPretrainedModel.pretrained_resource_files_map["model_state"]
    assert set(encoder_files.IN_PADDLENLP.values()) <= set(known)


def test_a_name_is_found_where_paddlenlp_keeps_its_models(tmp_path, monkeypatch):
    tensors = foreign.hugging_face_tensors()
    foreign.write(tmp_path / "models" / "hfl" / "rbt3", tensors)
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    assert_same_states(teacher.load_encoder("hfl/rbt3"), tensors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no config.json"),
        ("{", "unreadable"),
        ("[]", "not a mapping"),
        ('{"architectures": null}', "is none of PPMiniLMModel"),
        ('{"architectures": ["T5Model"]}', "is none of"),
        ('{"architectures": ["ErnieMModel"], "model_type": 3}', "is none of"),
        ('{"model_type": "bert", "hidden_act": "gelu_new"}', "hidden_act 'gelu_new' is not among"),
        ('{"model_type": "bert", "hidden_size": 30}', "hidden_size 30 is not a multiple of"),
        ('{"model_type": "bert", "hidden_size": "30"}', "hidden_size '30' is not a whole number"),
        (
            '{"model_type": "bert", "hidden_size": 1e30}',
            "hidden_size 1e+30 is not a whole number",
        ),
        ('{"model_type": "bert", "vocab_size": 1000000000000}', "from 1 to 16777216"),
        ('{"model_type": "bert", "num_hidden_layers": 1000000000}', "from 1 to 1000"),
        ('{"model_type": "bert", "pad_token_id": true}', "pad_token_id True is not a number"),
        ('{"model_type": "bert", "hidden_dropout_prob": NaN}', "hidden_dropout_prob nan"),
        ('{"model_type": "bert", "pad_token_id": -1}', "pad_token_id -1"),
        ('{"model_type": "bert", "position_embedding_type": "relative_key"}', "relative_key"),
    ],
)
def test_a_config_that_no_encoder_here_fits(tmp_path, text, message):
    foreign.write(tmp_path, foreign.hugging_face_tensors())
    (tmp_path / "config.json").unlink()
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json") as caught:
        teacher.load_encoder(tmp_path)
    assert message in str(caught.value)


def test_weights_of_other_sizes_are_named(tmp_path):
    foreign.write(tmp_path, foreign.hugging_face_tensors(), num_hidden_layers=2, vocab_size=41)
    with pytest.raises(UserError) as caught:
        teacher.load_encoder(tmp_path)
    assert "not part of the model: encoder.layers.2." in str(caught.value)
    assert "embeddings.word_embeddings.weight [40, 12] for [41, 12]" in str(caught.value)
