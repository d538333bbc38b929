"""The recipes of all sizes against stand-ins of what they name: nothing is wrong with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from data_pipeline.shards.format import Manifest
from data_pipeline.text import vocab
from pretrain import check
from pretrain.recipe import DistillRecipe
from tests.pretrain import tiny

RECIPES = Path(__file__).parents[2] / "launch" / "recipes"
FAMILY = sorted(path.parent.name for path in RECIPES.glob("ppminilm-*/distill.yaml"))
TEACHERS = {"roberta-wwm-ext": (12, 768, 12), "roberta-wwm-ext-large": (24, 1024, 16)}


def stand_in_teacher(directory: Path, layers: int, hidden: int, heads: int) -> Path:
    """config.json, vocab.txt, and weights of which only the names are those of the teacher."""
    directory.mkdir(parents=True)
    config = {
        "architectures": ["BertModel"],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "vocab_size": len(tiny.TOKENS),
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    }
    (directory / "config.json").write_text(json.dumps(config))
    vocab.write(directory / "vocab.txt", tiny.TOKENS)
    names = (f"encoder.layers.{layer}.linear1.weight" for layer in range(layers))
    save_file({name: np.zeros(1, "f4") for name in names}, directory / "model.safetensors")
    return directory


def stand_in_shards(directory: Path) -> Path:
    """A manifest of many samples, without any shard."""
    directory.mkdir()
    vocab.write(directory / "vocab.txt", tiny.TOKENS)
    values = vars(Manifest.read(tiny.make_shards(directory / "real")))
    changes = {"shards": [], "samples": 10**7, "max_length": 128}
    Manifest(**{**values, **changes}).write(directory)
    return directory


def test_the_family_has_its_members():
    assert FAMILY == [
        "ppminilm-3l-384h",
        "ppminilm-4l-312h",
        "ppminilm-6l-384h",
        "ppminilm-6l-768h",
    ]


@pytest.mark.parametrize("name", FAMILY)
def test_nothing_is_wrong_with_a_recipe_on_8_ranks(name, tmp_path):
    path = RECIPES / name / "distill.yaml"
    recipe, wrong = check.read(DistillRecipe, path)
    sizes = TEACHERS[Path(recipe.teacher.path).name]
    teacher = stand_in_teacher(tmp_path / "teacher", *sizes)
    shards = stand_in_shards(tmp_path / "shards")
    changes = ["--teacher.path", str(teacher), "--data.shards", str(shards)]
    recipe, wrong = check.read(DistillRecipe, path, changes)
    assert check.problems(recipe, 8, wrong) == []
    wrong_heads = [*changes, "--relations.heads", "40"]
    recipe, wrong = check.read(DistillRecipe, path, wrong_heads)
    assert any("40 does not divide" in problem for problem in check.problems(recipe, 8, wrong))


@pytest.mark.parametrize("name", FAMILY)
def test_a_name_says_the_shape(name):
    recipe, _ = check.read(DistillRecipe, RECIPES / name / "distill.yaml")
    student = recipe.student
    assert name == f"ppminilm-{student.num_hidden_layers}l-{student.hidden_size}h"
    assert student.layer == student.num_hidden_layers
    assert str(recipe.output_dir).startswith(f"runs/{name}/")
