"""Width pruning keeps what it should and makes models really smaller; zeros stay zero."""

import json

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from data_pipeline.base.recipes import check
from finetune import stages
from finetune.prune import criteria, importance, joint, sparse, width
from finetune.recipes import ExportRecipe, PruneRecipe, SparseRecipe
from finetune.settings import SparseSettings, WidthSettings
from finetune.training import classifier
from finetune.training.batches import Encoded
from pretrain.encoders.student import parameters

IDS = paddle.to_tensor([[2, 7, 18, 9, 3], [2, 11, 3, 0, 0]])
TYPES = paddle.zeros_like(IDS)


@pytest.fixture
def model(classifier_dir):
    """The trained classifier with biases that are not zero, so that a lost one shows."""
    loaded = classifier.load(classifier_dir).model
    loaded.eval()
    paddle.seed(5)
    for name, parameter in loaded.named_parameters():
        if name.endswith("bias"):
            parameter.set_value(paddle.randn(parameter.shape) * 0.3)
    return loaded


@pytest.fixture
def data():
    random = np.random.default_rng(1)
    rows = [random.integers(5, 35, size) for size in random.integers(3, 9, 40)]
    return Encoded(rows, [np.zeros_like(row) for row in rows], random.integers(0, 2, 40))


def test_reordering_leaves_the_logits_unchanged(model, data):
    before = model(IDS, TYPES).numpy()
    weights = model.layers[0].linear1.weight.numpy()
    width.reorder(model, importance.measure(model, data))
    np.testing.assert_allclose(model(IDS, TYPES).numpy(), before, atol=1e-6)
    assert (model.layers[0].linear1.weight.numpy() != weights).any()


def test_full_width_is_the_model_itself(model, data):
    before = model(IDS, TYPES).numpy()
    width.reorder(model, importance.measure(model, data))
    width.elastic(model)
    width.set_width(model, 0.5)
    width.set_width(model, 1.0)
    np.testing.assert_allclose(model(IDS, TYPES).numpy(), before, atol=1e-6)
    np.testing.assert_allclose(width.extract(model, 1.0)(IDS, TYPES).numpy(), before, atol=1e-6)


@pytest.mark.parametrize("share", [0.75, 0.5, 0.25])
def test_a_cut_model_computes_what_the_elastic_one_does(model, data, share):
    width.reorder(model, importance.measure(model, data))
    width.elastic(model)
    width.set_width(model, share)
    elastic = model(IDS, TYPES).numpy()
    np.testing.assert_allclose(width.extract(model, share)(IDS, TYPES).numpy(), elastic, atol=1e-6)


def test_importance_is_the_derivative_of_a_mask(model, data):
    """Against masks that really stand in the network, one batch at a time."""
    model.eval()
    layer = model.layers[1]
    head_dim = layer.self_attn.head_dim
    masks = paddle.ones([4])
    masks.stop_gradient = False
    out_proj = layer.self_attn.out_proj
    hook = out_proj.register_forward_pre_hook(
        lambda _, inputs: inputs[0] * masks.repeat_interleave(head_dim)
    )
    wanted = np.zeros(4)
    for row in range(3):
        batch = {k: paddle.to_tensor(v) for k, v in data.take(np.array([row])).items()}
        loss = F.cross_entropy(model(batch["input_ids"], batch["token_type_ids"]), batch["labels"])
        loss.backward()
        wanted += np.abs(masks.grad.numpy())
        masks.clear_gradient()
        model.clear_gradients()
    hook.remove()
    few = Encoded(data.input_ids[:3], data.token_type_ids[:3], data.labels[:3])
    found = importance.measure(model, few, batch_size=1)
    np.testing.assert_allclose(found.heads[1], wanted, rtol=1e-4, atol=1e-7)


def test_the_importance_of_a_neuron_is_dynaberts(model, data):
    """|dL/ds| for s scaling a neuron's inputs, plus the same for its outputs, by differences."""
    single = data.subset(np.array([3]))
    batch = {name: paddle.to_tensor(value) for name, value in single.take(np.array([0])).items()}
    layer = model.layers[0]

    def slope(parameters, neuron) -> float:
        originals = [parameter.numpy() for parameter in parameters]
        losses = []
        for scale in (1.02, 0.98):
            for parameter, original in zip(parameters, originals, strict=True):
                changed = original.copy()
                axis = () if changed.ndim == 1 else (slice(None),)
                at = (neuron,) if parameter is layer.linear2.weight else (*axis, neuron)
                changed[at] *= scale
                parameter.set_value(changed)
            logits = model(batch["input_ids"], batch["token_type_ids"])
            losses.append(float(F.cross_entropy(logits, batch["labels"])))
        for parameter, original in zip(parameters, originals, strict=True):
            parameter.set_value(original)
        return abs(losses[0] - losses[1]) / 0.04

    found = importance.measure(model, single).neurons[0]
    inputs, outputs = [layer.linear1.weight, layer.linear1.bias], [layer.linear2.weight]
    expected = [slope(inputs, n) + slope(outputs, n) for n in range(12)]
    np.testing.assert_allclose(found[:12], expected, rtol=0.05, atol=3e-4)


def test_other_criteria_for_widths(model, data):
    by_size = importance.measure(model, data, criterion="magnitude")
    heads = model.layers[1].self_attn.out_proj.weight.numpy().reshape(4, -1)
    order = np.argsort(np.linalg.norm(heads, axis=1))
    np.testing.assert_array_equal(np.argsort(by_size.heads[1]), order)
    first, again = (importance.measure(model, data, criterion="random") for _ in range(2))
    np.testing.assert_array_equal(first.neurons[0], again.neurons[0])
    assert not np.array_equal(first.neurons[0], first.neurons[1])


def test_importance_is_measured_on_random_training_examples():
    settings = WidthSettings(importance_examples=50)
    rows = joint.importance_rows(1000, settings)
    assert len(set(rows)) == 50
    assert not np.array_equal(np.sort(rows), np.arange(50))
    assert max(rows) > 500


def test_each_width_keeps_its_own_best_weights(model, data, monkeypatch):
    settings = WidthSettings(widths=(0.5, 0.75))
    width.elastic(model)
    best = joint.BestWidths(model, data, settings)
    values = iter([0.9, 0.2, 0.3, 0.8])  # 0.5 is best at the first evaluation, 0.75 at the second
    monkeypatch.setattr(
        joint, "evaluate", lambda *_: dict.fromkeys(("accuracy", "macro_f1"), next(values))
    )
    best.evaluate()
    before = model.layers[0].linear1.weight.numpy()
    model.layers[0].linear1.weight.set_value(before + 1)
    assert best.evaluate()["accuracy"] == pytest.approx(0.55)
    fitted = joint.Fitted({}, 0, [{"step": 10}, {"step": 20}])
    (first, first_fit), (second, second_fit) = (best.of_width(v, fitted) for v in (0.5, 0.75))
    assert (first_fit.step, second_fit.step) == (10, 20)
    np.testing.assert_array_equal(first.layers[0].linear1.weight.numpy(), before[:, :32])
    np.testing.assert_array_equal(second.layers[0].linear1.weight.numpy(), before[:, :48] + 1)


def test_gradients_do_not_run_from_batch_to_batch(model, data):
    """Twice the same data gives twice the importance: a left-over gradient would give more."""
    double = Encoded(
        data.input_ids[:1] * 2, data.token_type_ids[:1] * 2, np.repeat(data.labels[:1], 2)
    )
    single = Encoded(data.input_ids[:1], data.token_type_ids[:1], data.labels[:1])
    once = importance.measure(model, single, batch_size=1)
    twice = importance.measure(model, double, batch_size=1)
    np.testing.assert_allclose(twice.neurons[0], 2 * once.neurons[0], rtol=1e-5)
    assert all(
        parameter.grad is None or not parameter.grad.any() for parameter in model.parameters()
    )


def test_important_heads_survive(model, data):
    """A head whose output is multiplied away is the first to go."""
    attention = model.layers[0].self_attn
    rows = attention.out_proj.weight.numpy()
    rows[: attention.head_dim] = 0
    attention.out_proj.weight.set_value(rows)
    before = model(IDS, TYPES).numpy()
    found = importance.measure(model, data)
    assert found.heads[0].argmin() == 0
    width.reorder(model, found)
    small = model.layers[0].self_attn.out_proj.weight.numpy()
    assert (small[-attention.head_dim :] == 0).all()
    np.testing.assert_allclose(model(IDS, TYPES).numpy(), before, atol=1e-6)


@pytest.fixture(scope="module")
def pruned(workshop, classifier_dir, task):
    values = {
        "output_dir": workshop / "pruned",
        "classifier": classifier_dir,
        "task": task.model_dump(),
        "prune": {
            "widths": [0.5, 0.75],
            "fit": {"epochs": 2, "learning_rate": 1e-3, "dropout": 0.0},
        },
    }
    return stages.prune(check(PruneRecipe, values, "test"))


def test_widths_differ_in_shapes_parameters_and_logits(pruned, classifier_dir):
    models = [classifier.load(path).model for path in (classifier_dir, *pruned)]
    heads = [[layer.self_attn.num_heads for layer in model.layers] for model in models]
    assert heads == [[4, 4], [3, 3], [2, 2]]
    neurons = [model.layers[0].linear1.weight.shape[1] for model in models]
    assert neurons == [64, 48, 32]
    assert [model.layers[1].self_attn.q_proj.weight.shape for model in models] == [
        [32, 32],
        [32, 24],
        [32, 16],
    ]
    sizes = [parameters(model) for model in models]
    assert sizes[0] > sizes[1] > sizes[2]
    logits = []
    for model in models:
        model.eval()
        logits.append(model(IDS, TYPES).numpy())
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    assert np.abs(logits[1] - logits[2]).max() > 1e-3


def test_pruned_models_still_know_the_task(pruned):
    for path in pruned:
        result = json.loads((path / "result.json").read_text())
        assert result["accuracy"] > 0.9
        assert result["width"] == float(path.name.removeprefix("width-"))


def test_a_pruned_model_loads_again_in_static_form(pruned, tmp_path):
    for kind in ("onnx", "paddle"):  # `export` itself compares logits with the dynamic model
        recipe = ExportRecipe(output_dir=tmp_path / kind, classifier=pruned[1], format=kind)
        deploy = json.loads((stages.export(recipe) / "deploy.json").read_text())
        assert deploy["parameters"] == parameters(classifier.load(pruned[1]).model)


def test_the_schedule_is_cubic():
    settings = SparseSettings(sparsity=0.8, begin_share=0.1, end_share=0.6)
    at = [sparse.scheduled(step, 100, settings) for step in (0, 10, 35, 60, 100)]
    assert at == pytest.approx([0, 0, 0.8 * (1 - 0.5**3), 0.8, 0.8])


def test_global_masks_may_empty_one_matrix_and_local_ones_never():
    scores = {"small": np.full((4, 4), 0.1), "large": np.arange(16.0).reshape(4, 4) + 1}
    local = criteria.local_masks(scores, 0.5)
    assert [mask.sum() for mask in local.values()] == [8, 8]
    everywhere = criteria.global_masks(scores, 0.5)
    assert [mask.sum() for mask in everywhere.values()] == [0, 16]


@pytest.mark.parametrize(
    ("method", "scope"),
    [("magnitude", "global"), ("movement", "local"), ("magnitude", "2:4"), ("random", "layer")],
)
def test_sparse_models_are_sparse_for_good(method, scope, tmp_path, classifier_dir, task):
    values = {
        "output_dir": tmp_path / "s",
        "classifier": classifier_dir,
        "task": task.model_dump(),
        "sparse": {
            "method": method,
            "scope": scope,
            "sparsity": 0.5,
            "every": 2,
            "fit": {"epochs": 4, "learning_rate": 1e-3, "dropout": 0.0},
        },
    }
    loaded = classifier.load(stages.sparsify(check(SparseRecipe, values, "test")))
    assert sparse.sparsity(loaded.model) == pytest.approx(0.5, abs=0.002)
    assert loaded.result["sparsity"] == pytest.approx(0.5, abs=0.002)
    assert loaded.result["accuracy"] > (0.85 if method != "random" else 0.4)


def test_movement_keeps_what_moves_away_from_zero(model):
    pruner = sparse.Pruner(model, SparseSettings(method="movement", sparsity=0.5))
    name, weight = next(iter(pruner.weights.items()))
    values = weight.numpy()

    # descent makes the first half larger and shrinks the second half
    direction = np.sign(values)
    direction[: len(values) // 2] *= -1
    for matrix in pruner.weights.values():
        (matrix * 0.0).sum().backward()
    weight.grad.set_value(paddle.to_tensor(direction))
    pruner.on_gradients(1, 10)
    kept = criteria.local_masks({name: pruner.scores()[name]}, 0.5)[name]
    assert kept[: len(values) // 2].mean() > 0.95


def small_history(seed=0, shape=(8, 6)):
    random = np.random.default_rng(seed)
    return criteria.MatrixHistory(
        "encoder.encoder.layers.0.linear1.weight",
        random.normal(size=shape).astype("float32"),
        random.normal(size=shape).astype("float32"),
    )


def test_movement_scores_are_trained_as_published(model):
    """Against Paddle's Adam on a score that has the straight-through gradient G x W."""
    settings = SparseSettings(method="movement", begin_share=0, end_share=0.5, every=1)
    pruner = sparse.Pruner(model, settings)
    name, weight = next(iter(pruner.weights.items()))
    dense = pruner.histories[name].weight.copy()
    score = paddle.create_parameter(weight.shape, "float32")
    score.set_value(paddle.zeros(weight.shape))
    schedule = paddle.optimizer.lr.LambdaDecay(1e-2, lambda step: 1 - step / 4)
    optimizer = paddle.optimizer.Adam(schedule, parameters=[score])
    for step in (1, 2, 3):
        gradient = np.random.default_rng(step).normal(size=weight.shape).astype("float32")
        (score * paddle.to_tensor(gradient * pruner.histories[name].weight)).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
        for matrix in pruner.weights.values():
            (matrix * 0.0).sum().backward()
        weight.grad.set_value(paddle.to_tensor(gradient))
        masked_before, mask = pruner.histories[name].weight.copy(), pruner.masks[name]
        pruner.on_gradients(step, 4)
        np.testing.assert_array_equal(weight.grad.numpy()[~mask], 0)
        weight.set_value(weight - 0.1)  # an update that would move masked weights too
        pruner.after_step(step, 4)
        np.testing.assert_array_equal(pruner.histories[name].weight[~mask], masked_before[~mask])
        model.clear_gradients()
    np.testing.assert_allclose(pruner.histories[name].movement, score.numpy(), atol=1e-5)
    assert not np.array_equal(pruner.histories[name].weight, dense)
    assert 0.4 < pruner.masks[name].mean() < 0.6


def test_sparsifying_can_learn_from_a_teacher(tmp_path, classifier_dir, task):
    values = {
        "output_dir": tmp_path / "s",
        "classifier": classifier_dir,
        "task": task.model_dump(),
        "sparse": {
            "method": "movement",
            "sparsity": 0.3,  # of so small a model more is lost now and then, by the seed
            "every": 2,
            "fit": {"epochs": 4, "learning_rate": 1e-3},
        },
        "distill": {"teacher": classifier_dir, "alpha": 1.0},
    }
    loaded = classifier.load(stages.sparsify(check(SparseRecipe, values, "test")))
    assert loaded.result["accuracy"] > 0.8  # alpha 1: from the teacher's logits alone


def test_two_of_four_leaves_the_highest_two_of_every_four():
    score = criteria.magnitude(small_history(shape=(10, 3)))
    (mask,) = criteria.two_of_four_masks({"m": score}, 0.5).values()
    groups = mask[:8].reshape(2, 4, 3)
    assert (groups.sum(1) == 2).all()
    assert mask[8:].all()  # inputs that fill no group
    kept = np.where(groups, score[:8].reshape(2, 4, 3), np.inf).min(1)
    lost = np.where(groups, 0, score[:8].reshape(2, 4, 3)).max(1)
    assert (kept >= lost).all()
    (half,) = criteria.two_of_four_masks({"m": score}, 0.25).values()
    assert (half[:8].reshape(2, 4, 3).sum(1) == 2).sum() == 3  # half of the six groups


def test_columns_go_whole_and_layers_keep_their_share():
    score = criteria.magnitude(small_history())
    (mask,) = criteria.column_masks({"m": score}, 0.5).values()
    assert (mask.all(0) | ~mask.any(0)).all()
    assert mask.any(0).sum() == 3
    assert score.sum(0)[mask[0]].min() >= score.sum(0)[~mask[0]].max()
    names = [f"encoder.encoder.layers.{i}.linear{j}.weight" for i in (0, 1) for j in (1, 2)]
    scores = {name: np.full((4, 4), float(i)) for i, name in enumerate(names)}
    counts = [mask.sum() for mask in criteria.layer_masks(scores, 0.5).values()]
    assert counts == [0, 16, 0, 16]  # within a layer the matrix with the higher scores stays


def test_random_scores_are_fixed_for_a_matrix():
    first, again = (criteria.at_random(small_history(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(first, again)
    assert 0.3 < first.mean() < 0.7
