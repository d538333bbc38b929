"""Counted sizes are those of what is really built and written."""

import pytest

from data_pipeline.base import recipes
from pretrain import cost
from pretrain.encoders.student import Vocabulary, build_student
from pretrain.recipe import DistillRecipe, MaskedLMRecipe
from tests.pretrain import tiny


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny.make_root(tmp_path_factory.mktemp("cost"))


def recipe_of(root, **changes):
    values = tiny.distill_values(root, root / "out", **changes)
    return recipes.check(DistillRecipe, values, where="test")


def test_the_weights_are_counted_exactly(root):
    recipe = recipe_of(root)
    special = dict(zip(("pad", "unk", "cls", "sep", "mask"), range(5), strict=True))
    student = build_student(recipe.student, Vocabulary(len(tiny.TOKENS), special))
    counted = cost.cost_of(recipe, 1)
    assert counted.parameters == sum(p.size for p in student.parameters())
    assert counted.gradient_bytes == 4 * counted.parameters


def test_sharded_moments_are_divided_by_the_ranks(root):
    whole, one = (cost.cost_of(recipe_of(root, **c), 2) for c in ({"optimizer.sharded": False}, {}))
    assert whole.weights_bytes == one.weights_bytes == 16 * one.parameters
    sharded = cost.cost_of(recipe_of(root, **{"optimizer.sharded": True}), 2)
    assert sharded.weights_bytes == 12 * one.parameters


def test_the_disk_holds_what_the_recipe_retains_and_one_more(root):
    recipe = recipe_of(
        root,
        **{
            "optimizer.total_steps": 100,
            "checkpoint": {"every_steps": 10, "keep_last": 2, "keep_every": 50},
            "monitor.log_every_steps": 5,
        },
    )
    assert cost.run_bytes(recipe, 1000, 10) == (2 + 2 + 1) * 1000 + 20 * cost.LOG_BYTES_PER_RECORD
    short = recipe_of(root, **{"optimizer.total_steps": 5, "optimizer.warmup_steps": 1,
                               "checkpoint": {"every_steps": 10, "keep_last": 2}})  # fmt: skip
    assert cost.run_bytes(short, 1000, 10) == 2 * 1000 + 5 * cost.LOG_BYTES_PER_RECORD


def test_q_k_and_v_are_exchanged_only_where_groups_span_ranks(root):
    recipe = recipe_of(root)  # 16 samples in groups of 4
    assert cost.cost_of(recipe, 4).exchange_bytes == 0
    assert cost.cost_of(recipe, 8).exchange_bytes > 0


def test_relations_count_the_elements_of_their_tables(root):
    def elements(**relations):
        return cost.relation_elements(recipe_of(root, relations={"heads": 4, **relations}), 16)

    assert elements(alpha=0, beta=1) == 3 * 4 * 16 * 4  # [R, L, G]
    assert elements(alpha=0, beta=0) == 3 * 4 * 16 * 16  # [R, L, L]
    assert elements(alpha=1, beta=0) == 3 * 16 * 4 * 4  # [L, R, R]
    assert elements(alpha=0, beta=0.5, hidden=1) == 4 * (4 * 16 * 4 + 4 * 16 * 16)


def test_masked_language_model_pre_training_has_a_cost_too(root):
    values = {
        "output_dir": str(root / "mlm"), "model_dir": str(root / "model"),
        "data": {"shards": str(root / "shards")}, "encoder": tiny.sizes(2, 16),
        "batch": {"global_batch_size": 16, "relation_group_size": 4},
        "optimizer": {"total_steps": 10, "warmup_steps": 1},
    }  # fmt: skip
    made = cost.cost_of(recipes.check(MaskedLMRecipe, values, where="test"), 2)
    assert made.teacher_parameters == made.relation_traffic_bytes == 0
    assert made.flops_per_step > 0 and made.disk_bytes > 2 * made.checkpoint_bytes


def test_missing_files_are_assumptions_not_errors(tmp_path):
    values = tiny.distill_values(tmp_path, tmp_path / "out", **{"student.layer": 2})
    made = cost.cost_of(recipes.check(DistillRecipe, values, where="test"), 1)
    assert made.length == 128
    assert made.teacher_parameters == pytest.approx(325e6, rel=0.01)  # RoBERTa-wwm-ext-large
    assert len(made.assumptions) == 2
