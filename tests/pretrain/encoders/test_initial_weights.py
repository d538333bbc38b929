"""Initial weights of encoders as PaddleNLP computes them; those of the masked-LM head too."""

import numpy as np
import paddle
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from data_pipeline.shards.format import Manifest, ShardReader
from pretrain import mlm
from pretrain.encoders import cooccurrence, local_attention
from pretrain.encoders.initial_weights import position_pairs
from pretrain.encoders.settings import InitialWeights
from pretrain.recipe import MaskedLMRecipe
from tests.pretrain import tiny

ALL = {"words": "cooccurrence", "local_attention": True, "neighbours": True, "head": "unigram"}


def build(root, initial, hidden=64, **changes):
    encoder = {**tiny.sizes(3, hidden), "num_attention_heads": 4} | changes
    recipe = check(
        MaskedLMRecipe,
        {
            "output_dir": str(root / "run"),
            "model_dir": str(root / "model"),
            "data": {"shards": str(root / "shards")},
            "encoder": encoder,
            "initial_weights": initial,
        },
        "test",
    )
    objective = mlm.build(recipe, Manifest.read(root / "shards"))
    objective.eval()
    return objective


def weights_of(objective):
    return {name: value.numpy() for name, value in objective.state_dict().items()}


@pytest.fixture(scope="module")
def initialised(tiny_root):
    return build(tiny_root, ALL)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_heads_look_at_their_offsets(initialised, number):
    weights = tiny.attention_weights(initialised.encoder, number)
    for head, offset in enumerate(local_attention.offsets(number, 4)):
        # Near the ends some heads have no token at their offset, and look anywhere: what they add
        # decides there where the next layer looks.
        lacking = 0 if number == 0 else max(map(abs, local_attention.offsets(0, 4)))
        inside = [i for i in range(24) if lacking <= i + offset < 24 - lacking]
        assert (weights[head][inside].argmax(1) == np.array(inside) + offset).all()


def test_the_first_layer_sees_little_else_in_any_sentence(initialised):
    weights = tiny.attention_weights(initialised.encoder, 0)
    for head, offset in enumerate(local_attention.offsets(0, 4)):
        assert np.diagonal(weights[head], offset).mean() > 0.7


def test_words_and_positions_have_coordinates_of_their_own(initialised):
    embeddings = initialised.encoder.embeddings
    place = 2 * position_pairs(initialised.encoder.config)
    words = embeddings.word_embeddings.weight.numpy()
    positions = embeddings.position_embeddings.weight.numpy()
    assert not words[:, :place].any() and not positions[:, place:].any()
    assert not embeddings.token_type_embeddings.weight.numpy().any()
    counted = words[5:, place:]
    share = (positions**2).sum(1).mean() / ((positions**2).sum(1).mean() + (words**2).sum(1).mean())
    assert share == pytest.approx(0.25, abs=0.01)
    assert counted.std() == pytest.approx(0.05, rel=0.05)


def test_the_bias_is_the_logarithm_of_token_shares(initialised, tiny_root):
    manifest = Manifest.read(tiny_root / "shards")
    ids = ShardReader(tiny_root / "shards").range(0, manifest.samples).ids
    counts = np.array([np.sum(ids == token) + 1.0 for token in range(manifest.vocab_size)])
    counts[list(manifest.special_ids.values())] = 0.5
    np.testing.assert_allclose(initialised.bias.numpy(), np.log(counts / counts.sum()), rtol=1e-5)


def test_the_head_hands_states_on_almost_as_they_are(initialised):
    states = paddle.randn([200, 64])
    out = initialised.norm(paddle.nn.functional.gelu(initialised.transform(states)))
    actual = np.corrcoef(out.numpy().ravel(), states.numpy().ravel())[0, 1]
    assert actual > 0.98


def test_a_neighbour_adds_what_it_makes_likely(initialised, tiny_root):
    """Value and output of a head are the neighbour map of its offset, cut to the head's rank."""
    encoder, manifest = initialised.encoder, Manifest.read(tiny_root / "shards")
    attention, place = encoder.encoder.layers[0].self_attn, 2 * position_pairs(encoder.config)
    value, output = attention.v_proj.weight.numpy(), attention.out_proj.weight.numpy()
    assert not value[:place].any() and not output[:, :place].any()
    words = encoder.embeddings.layer_norm(encoder.embeddings.word_embeddings.weight)
    vectors, scales = words.numpy()[:, place:].astype(np.float64), []
    for head, offset in enumerate(local_attention.offsets(0, 4)):
        counts = cooccurrence.neighbour_counts(
            [ShardReader(tiny_root / "shards").range(0, manifest.samples)],
            abs(offset),
            manifest.vocab_size,
            manifest.special_ids.values(),
        )
        if head == 0:
            frequencies = np.asarray(counts.sum(1)).ravel()
        directed = counts if offset > 0 else counts.T.tocsr()
        matrix = cooccurrence.neighbour_map(directed, vectors, frequencies)
        left, singular, right = np.linalg.svd(matrix)
        expected = (left[:, :16] * singular[:16]) @ right[:16]
        at = slice(16 * head, 16 * head + 16)
        actual = (value[place:, at] @ output[at, place:]).T
        scales.append((actual * expected).sum() / (expected**2).sum())
        np.testing.assert_allclose(actual, scales[-1] * expected, atol=1e-4 * np.abs(actual).max())
    assert min(scales) > 0 and max(scales) == pytest.approx(min(scales), rel=1e-3)


def test_the_defaults_leave_everything_as_it_was_drawn(tiny_root):
    plain, other = (
        weights_of(build(tiny_root, {})),
        weights_of(build(tiny_root, {"head": "unigram"})),
    )
    changed = {name for name in plain if not np.array_equal(plain[name], other[name])}
    assert changed == {"transform.weight", "transform.bias", "bias"}
    assert InitialWeights().drawn


def test_the_same_recipe_makes_the_same_weights(initialised, tiny_root):
    again = weights_of(build(tiny_root, ALL))
    for name, value in weights_of(initialised).items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)


@pytest.mark.parametrize("hidden", [8, 24, 200])
def test_any_width(tiny_root, hidden):
    for value in weights_of(build(tiny_root, ALL, hidden)).values():
        assert np.isfinite(value).all()


@pytest.mark.parametrize("missing", ["words", "local_attention"])
def test_neighbour_maps_need_word_vectors_and_local_attention(missing):
    with pytest.raises(UserError, match="neighbours needs local_attention: true and words"):
        settings = {k: v for k, v in ALL.items() if k not in (missing, "head")}
        check(InitialWeights, settings, "test")
