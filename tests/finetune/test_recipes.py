"""Values that no stage can work with are refused before anything starts, each with its field."""

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune import recipes

TASK = {"name": "inews"}
TRAIN = {"output_dir": "o", "encoder": "e", "task": TASK}
BAD = [
    (recipes.TrainRecipe, TRAIN, {"train": {"batch_size": 0}}, "train.batch_size"),
    (recipes.TrainRecipe, TRAIN, {"train": {"learning_rate": -1}}, "train.learning_rate"),
    (recipes.TrainRecipe, TRAIN, {"train": {"epochs": -1}}, "train.epochs"),
    (recipes.TrainRecipe, TRAIN, {"train": {"warmup_share": 5}}, "train.warmup_share"),
    (recipes.TrainRecipe, TRAIN, {"train": {"clip_norm": 0}}, "train.clip_norm"),
    (recipes.TrainRecipe, TRAIN, {"train": {"evaluate_every": 0}}, "train.evaluate_every"),
    (recipes.TrainRecipe, TRAIN, {"train": {"choose_by": "acuracy"}}, "train.choose_by"),
    (recipes.TrainRecipe, TRAIN, {"max_length": 0}, "max_length"),
    (recipes.TrainRecipe, TRAIN, {"distill": {"teacher": "t", "alpha": 2}}, "distill.alpha"),
    (recipes.TrainRecipe, TRAIN, {"task": {"name": "inews", "train_limit": 0}}, "train_limit"),
    (recipes.SearchRecipe, TRAIN, {"search": {"batch_sizes": []}}, "search.batch_sizes"),
    (recipes.SearchRecipe, TRAIN, {"search": {"learning_rates": [0]}}, "search.learning_rates"),
]
PRUNE = {"output_dir": "o", "classifier": "c", "task": TASK}
BAD += [
    (recipes.PruneRecipe, PRUNE, {"prune": {"widths": []}}, "prune.widths"),
    (recipes.PruneRecipe, PRUNE, {"prune": {"widths": [75]}}, "prune.widths"),
    (recipes.PruneRecipe, PRUNE, {"prune": {"importance_examples": 0}}, "importance_examples"),
    (recipes.SparseRecipe, PRUNE, {"sparse": {"sparsity": 1}}, "sparse.sparsity"),
    (recipes.SparseRecipe, PRUNE, {"sparse": {"begin_share": 0.8}}, "end_share"),
    (recipes.ServeRecipe, {"model": "m"}, {"threads": -3}, "threads"),
    (recipes.ExportRecipe, PRUNE, {"task": None}, "task: unknown key"),
]
REPORT = {"output_dir": "o", "task": TASK, "models": {"a": "b"}}
BAD += [
    (recipes.ReportRecipe, REPORT, {"models": {}}, "models"),
    (
        recipes.ReportRecipe,
        REPORT,
        {"report": {"threads": [-3]}},
        "threads",
    ),
    (
        recipes.ReportRecipe,
        REPORT,
        {"report": {"batch_sizes": []}},
        "batch",
    ),
]
COMPRESS = {"output_dir": "o", "student": "s", "task": TASK}
BAD += [
    (recipes.CompressRecipe, COMPRESS, {"references": {name: "x"}}, "references")
    for name in ("../../evil", "a/b", ".hidden", "", "student", "student-old", "名")
]
BAD += [
    (recipes.CompressRecipe, COMPRESS, {"reference_epochs": {"teacher": 1}}, "reference_epochs"),
]


@pytest.mark.parametrize(("recipe", "values", "change", "field"), BAD)
def test_out_of_bounds_is_one_sentence_with_its_field(recipe, values, change, field):
    with pytest.raises(UserError) as refused:
        check(recipe, {**values, **change}, "test")
    (line,) = str(refused.value).splitlines()[1:]
    assert field in line
