"""The five faults of the published loop, each as a test; and what the objective promises besides.

The published loop is PaddleNLP's `to_distill` and `calc_multi_relation_loss`, read in
`paddlenlp/transformers/distill_utils.py`.
"""

import numpy as np
import paddle
import pytest
from paddle import nn

from data_pipeline.base.recipes import check
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.order import OrderSettings, World
from data_pipeline.shards.format import Manifest
from pretrain import run
from pretrain.encoders import student
from pretrain.encoders.initial_weights import initialise
from pretrain.encoders.states import qkv_at
from pretrain.recipe import DistillRecipe
from tests.pretrain import tiny


@pytest.fixture
def build(tiny_root, tmp_path, monkeypatch):
    """A function that builds (recipe, objective, teacher) with changes to the tiny recipe."""
    from pretrain.encoders import load as teacher

    loaded = []
    load_encoder = teacher.load_encoder
    monkeypatch.setattr(
        teacher, "load_encoder", lambda *how: loaded.append(load_encoder(*how)) or loaded[-1]
    )

    def make(**changes):
        still = {"student.hidden_dropout_prob": 0.0}
        values = tiny.distill_values(tiny_root, tmp_path / "run", **(still | changes))
        recipe = check(DistillRecipe, values, "test")
        objective = run.build(recipe, Manifest.read(recipe.data.shards))
        return recipe, objective, loaded[-1]

    return make


def steps(recipe, world=None, micro=1, count=2):
    batch = recipe.batch
    settings = OrderSettings(
        relation_group_size=batch.relation_group_size,
        global_batch_size=batch.global_batch_size,
        window_samples=recipe.data.window_samples,
        block_samples=recipe.data.block_samples,
    )
    loader = iter(Loader(recipe.data.shards, settings, world or World(), None, micro, workers=0))
    return [next(loader) for _ in range(count)]


def inputs_of(objective, batch):
    """Inputs and targets of a batch."""
    arrays, _ = objective.sample(batch, np.random.default_rng(0))
    inputs = [paddle.to_tensor(array) for array in arrays]
    return [*inputs, *objective.targets(*inputs)]


def loss_and_gradients(objective, batches, share=1.0):
    """Sum over micro-batches of the mean loss; gradients by name."""
    total = 0.0
    objective.clear_gradients()
    for batch in batches:
        loss, _ = objective(*inputs_of(objective, batch))
        loss = loss * share
        loss.backward()
        total += float(loss)
    return total, {
        name: parameter.grad.numpy().copy()
        for name, parameter in objective.named_parameters()
        if parameter.grad is not None
    }


def assert_same(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        np.testing.assert_allclose(gradient, other[1][name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_fault_1_padding_enters_the_loss(build):
    import dataclasses

    recipe, objective, _ = build()
    (batch, *_), *_ = steps(recipe)
    more = ((0, 0), (0, 8))
    wider = dataclasses.replace(
        batch,
        input_ids=np.pad(batch.input_ids, more),
        attention_mask=np.pad(batch.attention_mask, more),
        word_start=np.pad(batch.word_start, more),
    )
    assert_same(loss_and_gradients(objective, [batch]), loss_and_gradients(objective, [wider]))


@pytest.mark.parametrize(("ranks", "micro"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)])
def test_fault_2_the_objective_depends_on_devices_and_accumulation(build, ranks, micro):
    recipe, objective, _ = build()
    (whole,), *_ = steps(recipe, micro=4)
    parts = [batch for rank in range(ranks)
             for batch in steps(recipe, World(rank, ranks), micro)[0]]  # fmt: skip
    assert_same(
        loss_and_gradients(objective, parts, 1 / len(parts)),
        loss_and_gradients(objective, [whole]),
    )


def test_fault_3_the_teacher_is_trained_wrapped_and_run_to_its_top(build):
    recipe, objective, teacher = build()
    before = {name: value.numpy().copy() for name, value in teacher.state_dict().items()}
    called = []
    for encoder, who in ((teacher, "teacher"), (objective.encoder, "student")):
        for name, layer in encoder.named_sublayers():
            layer.register_forward_pre_hook(
                lambda *_, who=who, name=name: called.append((who, name))
            )
    loss_and_gradients(objective, steps(recipe)[0])
    # Layer 2 of the teacher's 3, and 2 of the student's 2: index 1 in both.
    inside = {name for _, name in called if name.startswith("encoder.layers.1.")}
    assert inside == {f"encoder.layers.1.self_attn.{x}_proj" for x in "qkv"}
    assert not any(".layers.2" in name or "pooler" in name for _, name in called)
    assert not any(layer.training for layer in teacher.sublayers(include_self=True))
    assert all(parameter.stop_gradient for parameter in teacher.parameters())
    assert teacher not in objective.sublayers()
    for name, value in teacher.state_dict().items():
        assert (value.numpy() == before[name]).all(), name


def test_fault_3_the_teacher_is_bit_identical_after_training(build):
    from pretrain.training import optimizer as optimize

    recipe, objective, teacher = build()
    before = [
        {name: value.numpy().copy() for name, value in encoder.state_dict().items()}
        for encoder in (teacher, objective.encoder)
    ]
    optimizer = optimize.build_optimizer(objective, recipe.optimizer)
    optimizer.set_lr(0.01)
    objective.train()
    for batches in steps(recipe, count=3):
        loss_and_gradients(objective, batches)
        optimizer.step()
    assert not any(layer.training for layer in teacher.sublayers(include_self=True))
    for name, value in teacher.state_dict().items():
        assert (value.numpy() == before[0][name]).all(), name
    moved = objective.encoder.embeddings.word_embeddings.weight.numpy()
    assert (moved != before[1]["embeddings.word_embeddings.weight"]).any()


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_fault_4_layers_are_counted_from_0(tiny_root, layer):
    from pretrain.encoders.load import load_encoder

    encoder = load_encoder(tiny_root / "teacher")
    ids = paddle.to_tensor(np.random.default_rng(0).integers(5, 64, (2, 9)))
    mask = paddle.ones_like(ids)
    hidden = encoder(ids, attention_mask=mask, output_hidden_states=True, return_dict=True)
    attention = encoder.encoder.layers[layer - 1].self_attn
    below = hidden.hidden_states[layer - 1]  # [0] is what the embeddings give
    for actual, name in zip(qkv_at(encoder, ids, mask, layer), "qkv", strict=True):
        wanted = getattr(attention, f"{name}_proj")(below)
        np.testing.assert_allclose(actual.numpy(), wanted.numpy(), atol=1e-5)


def test_fault_5_classes_are_patched_for_everyone(build):
    classes = (nn.MultiHeadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
    before = [dict(vars(kind)) for kind in classes]
    recipe, objective, teacher = build(**{"relations.hidden": 1.0})
    loss_and_gradients(objective, steps(recipe)[0])
    assert [dict(vars(kind)) for kind in classes] == before
    for encoder in (teacher, objective.encoder):
        for layer in encoder.sublayers():
            assert "forward" not in vars(layer)


def test_relation_h_trains_the_rest_of_the_layer(build):
    recipe, objective, _ = build(**{"relations.hidden": 0.5})
    _, gradients = loss_and_gradients(objective, steps(recipe)[0])
    reached = {name.removeprefix("encoder.") for name in gradients}
    all_names = {name for name, _ in objective.encoder.named_parameters()}
    assert all_names - reached == {"pooler.dense.weight", "pooler.dense.bias"}
    batch = steps(recipe)[0][0]
    _, parts = objective(*inputs_of(objective, batch))
    assert set(parts) == {"total", "q", "k", "v", "h"}
    terms = {name: float(value) for name, value in parts.items()}
    expected = terms["q"] + terms["k"] + terms["v"] + 0.5 * terms["h"]
    assert terms["total"] == pytest.approx(expected, rel=1e-6)


def test_what_relations_do_not_reach_is_frozen_and_named(build):
    recipe, objective, _ = build()
    _, gradients = loss_and_gradients(objective, steps(recipe)[0])
    frozen = student.freeze_unreached(objective.encoder, recipe.student.layer, with_hidden=False)
    names = {name for name, _ in objective.encoder.named_parameters()}
    assert names - {name.removeprefix("encoder.") for name in gradients} == set(frozen)
    assert "encoder.layers.1.self_attn.out_proj.weight" in frozen
    assert "encoder.layers.1.linear1.weight" in frozen


def test_a_student_may_start_from_teacher_layers(build):
    same = {f"student.{name}": value for name, value in tiny.sizes(2, 24).items()}
    _, objective, teacher = build(**same, **{"student.from_teacher_layers": [1, 3]})
    for own, number in ((0, 1), (1, 3)):
        copied = objective.encoder.encoder.layers[own].state_dict()
        for name, value in teacher.encoder.layers[number - 1].state_dict().items():
            assert (copied[name].numpy() == value.numpy()).all()


def test_a_student_may_start_from_what_the_corpus_tells(build):
    """As a teacher does: the same weights, by the same rule."""
    start = {"words": "cooccurrence", "local_attention": True, "neighbours": True}
    recipe, objective, _ = build(
        **{f"initial_weights.{name}": value for name, value in start.items()}
    )
    _, drawn, _ = build()
    expected, manifest = drawn.encoder, Manifest.read(recipe.data.shards)
    special_ids = manifest.special_ids.values()
    initialise(expected, recipe.initial_weights, recipe.data.shards, special_ids, recipe.seed)
    values = objective.encoder.state_dict()
    for name, value in expected.state_dict().items():
        assert (values[name] == value).all(), name
    words = "embeddings.word_embeddings.weight"
    _, again, _ = build()
    assert (again.encoder.state_dict()[words] != values[words]).any()
