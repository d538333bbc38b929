"""What one shipped recipe reads, another one or a command of its stages makes; or a user brings it,
where the documentation says so."""

import re
import shlex
from pathlib import Path

import pytest

from data_pipeline.base import recipes
from data_pipeline.recipe import BuildRecipe
from finetune.recipes import CompressRecipe
from launch.stages import StageList
from pretrain import check
from pretrain.recipe import DistillRecipe, MaskedLMRecipe

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "launch" / "recipes"
YOUR_OWN = (ROOT / "docs" / "your-own.md").read_text(encoding="utf-8")
KINDS = {
    "data": BuildRecipe,
    "distill": DistillRecipe,
    "distill-64-gpus": DistillRecipe,
    "teacher": MaskedLMRecipe,
    "compress": CompressRecipe,
    "stages": StageList,
}
LOADED = {path: recipes.load(KINDS[path.stem], path) for path in sorted(RECIPES.glob("*/*.yaml"))}
RANKS = {"demo": (1, 2, 8), "teacher": (1, 2)}  # the others: up to 64 GPUs


def all_of(kind):
    return {path: recipe for path, recipe in LOADED.items() if isinstance(recipe, kind)}


RUNS = all_of(DistillRecipe) | all_of(MaskedLMRecipe)


def name_of(path: Path) -> str:
    return str(path.relative_to(RECIPES))


def brought(path: Path) -> bool:
    """Whether a user brings a directory: `models/NAME`, which docs/teachers.md tells how to get."""
    page = (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8") + YOUR_OWN
    return path.parts[0] == "models" and bool(re.search(rf"--local-dir {path}$", page, re.M))


def commands(stage_list: StageList) -> list[list[str]]:
    return [shlex.split(stage.command) for stage in stage_list.stages]


def recipe_of(words: list[str]) -> Path | None:
    paths = [ROOT / word for word in words if word.endswith(".yaml")]
    return paths[0] if paths else None


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_shards_are_those_of_a_data_recipe(path):
    makers = {recipe.output_dir: recipe for recipe in all_of(BuildRecipe).values()}
    assert LOADED[path].data.shards in makers


@pytest.mark.parametrize("path", all_of(DistillRecipe), ids=name_of)
def test_teacher_and_shards_have_one_vocabulary(path):
    """It is a file of the teacher's directory, or of that of its larger form, which has the
    same tokens (RoBERTa-wwm-ext and -large)."""
    recipe = LOADED[path]
    (built,) = [r for r in all_of(BuildRecipe).values() if r.output_dir == recipe.data.shards]
    teacher = Path(recipe.teacher.path)
    assert (ROOT / teacher).is_dir() or brought(teacher)
    assert built.vocab.file.parent in (teacher, teacher.with_name(f"{teacher.name}-large"))


@pytest.mark.parametrize("path", all_of(CompressRecipe), ids=name_of)
def test_encoders_are_made_by_the_stages_or_brought(path):
    recipe = LOADED[path]
    words = commands(LOADED[path.with_name("stages.yaml")])
    made = {Path(line[line.index("--output") + 1]): Path(line[4]) for line in words
            if line[1:4] == ["-m", "pretrain", "release"]}  # fmt: skip
    runs = {r.output_dir for r in all_of(DistillRecipe).values()}
    assert set(made.values()) <= runs
    for encoder in (recipe.student, *recipe.references.values()):
        assert encoder in made or (ROOT / encoder).is_dir() or brought(encoder), encoder


@pytest.mark.parametrize("path", all_of(StageList), ids=name_of)
def test_a_stage_makes_what_it_says(path):
    """The file of `makes` lies in a directory that the stage's recipe or its --output names."""
    for stage, words in zip(LOADED[path].stages, commands(LOADED[path]), strict=True):
        recipe = LOADED.get(recipe_of(words))
        assert recipe is not None or recipe_of(words) is None, words
        fields = ("output_dir", "model_dir", "report_dir")
        places = [getattr(recipe, field, None) for field in fields]
        places += [Path(words[words.index("--output") + 1])] if "--output" in words else []
        assert stage.makes.parent in places, stage.name


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_ranks_share_the_batch(path):
    recipe = LOADED[path]
    for ranks in RANKS.get(path.parent.name, (1, 2, 8, 64)):
        assert list(check.share_problems(recipe, ranks)) == [], ranks


def test_the_packaged_recipes_read_no_file_that_is_not_there():
    for path, recipe in LOADED.items():
        for word in re.findall(r"(?:assets|launch)/[\w./-]+", path.read_text(encoding="utf-8")):
            assert (ROOT / word.rstrip(".")).exists(), f"{path}: {word}"
        assert recipe is not None
