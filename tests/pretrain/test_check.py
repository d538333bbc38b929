"""What is wrong with a recipe is said at once, by field, before a model is loaded."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError
from data_pipeline.text import vocab
from pretrain import __main__ as command
from pretrain import check
from pretrain.recipe import DistillRecipe, MaskedLMRecipe
from tests.pretrain import foreign, tiny


@pytest.fixture
def problems_of(tiny_root, tmp_path):
    """A function: the problems of the tiny recipe with changes, for some ranks."""

    def problems(world_size=1, **changes):
        values = tiny.distill_values(tiny_root, tmp_path / "run", **changes)
        path = tiny.write_recipe(tmp_path / "distill.yaml", values)
        recipe, wrong = check.read(DistillRecipe, path)
        return check.problems(recipe, world_size, wrong)

    return problems


def test_a_good_recipe_has_no_problems(problems_of):
    assert problems_of() == []
    assert problems_of(world_size=4) == []


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"teacher.layr": 1}, "teacher.layr", "did you mean 'layer'?"),
        ({"teacher.layer": 4}, "teacher.layer", "4; the teacher has layers 1 to 3"),
        ({"teacher.layer": 0}, "teacher.layer", "it is 0"),
        ({"student.layer": 3}, "student", "layer 3 is not there: num_hidden_layers is 2"),
        ({"student.from_teacher_layers": [1]}, "student", "names 1 layers, num_hidden_layers is 2"),
        (
            {"student.from_teacher_layers": [1, 4]},
            "student.from_teacher_layers",
            "4; the teacher has layers 1 to 3",
        ),
        ({"student.from_teacher_layers": [1, 2]}, "student.hidden_size", "16, but a student that"),
        (
            {"student.from_teacher_layers": [1, 2], "initial_weights.local_attention": True},
            "(recipe)",
            "from_teacher_layers copies the weights that initial_weights would set",
        ),
        (
            {"student.num_attention_heads": 16, "initial_weights.local_attention": True},
            "(recipe)",
            "initial_weights.local_attention needs heads of at least 2 numbers",
        ),
        ({"relations.heads": 5}, "relations.heads", "5 does not divide the teacher's hidden_size"),
        ({"relations.heads": 12}, "relations.heads", "student's hidden_size 16; 1, 2, 4, 8 or 16"),
        ({"relations.alpha": 0.7}, "relations", "alpha + beta is 1.2; it may be at most 1"),
        ({"student.num_attention_heads": 3}, "student", "is not a multiple of num_attention_heads"),
        ({"batch.relation_group_size": 32}, "batch", "32 is more than the whole"),
        (
            {"batch.relation_group_size": 3},
            "batch",
            "16 is not a multiple of relation_group_size 3",
        ),
        ({"batch.groups_per_micro_batch": 3}, "batch.groups_per_micro_batch", "1, 2 or 4 would"),
        ({"batch.global_batch_size": 160}, "batch.global_batch_size", "holds 88 samples"),
        ({"student.max_position_embeddings": 8}, "student.max_position", "max_length 24"),
        ({"optimizer.warmup_steps": 14}, "optimizer", "leaves nothing of total_steps 14"),
        ({"optimizer.learning_rate": "fast"}, "optimizer.learning_rate", "it is 'fast'"),
        ({"optimizer.learning_rate": float("inf")}, "optimizer.learning_rate", "finite"),
        ({"precision.dtype": "int8"}, "precision.dtype", "'float32', 'float16' or 'bfloat16'"),
        ({"seed": -1}, "seed", "it is -1"),
        ({"data.shards": "/nowhere"}, "data.shards", "holds no finished shards; make them with"),
        ({"teacher.path": "hfl/rbt3"}, "teacher.path", "huggingface-cli download hfl/rbt3"),
        ({"teacher.weights": "some.bin"}, "teacher.weights", "no some.bin"),
        ({"teacher.engine": "torch"}, "teacher.engine", "'onnx_int8'"),
        ({"student": 3}, "student", "it is 3"),
    ],
)
def test_each_problem_names_its_field_and_what_would_be_valid(problems_of, change, field, message):
    problems = problems_of(**change)
    assert any(text.startswith(field) and message in text for text in problems), problems
    others = ("relations.heads", "student")  # one value may fit neither the teacher nor the student
    assert len(problems) == 1 or all(text.startswith(others) for text in problems)


def test_more_ranks_than_groups_share_them(problems_of):
    assert problems_of(world_size=8) == []  # 4 groups of 4 samples: 2 ranks and 2 samples each
    assert problems_of(world_size=16) == []
    (problem,) = problems_of(world_size=32)
    assert problem.startswith("batch.global_batch_size: 16 is 4 relation group(s) of 4")
    assert "1, 2, 4, 8 or 16 ranks can" in problem
    (problem,) = problems_of(world_size=16, **{"relations.heads": 2})
    assert problem.startswith("relations.heads: 2 heads cannot be divided among the 4 ranks")
    (problem,) = problems_of(world_size=8, **{"batch.groups_per_micro_batch": 2})
    assert "2 does not divide the 1 relation group(s) of a rank" in problem


def test_64_gpus_run_the_published_global_batch(tiny_root):
    recipe = recipes.load(
        DistillRecipe, tiny.ROOT / "launch" / "recipes" / "ppminilm-6l-768h" / "distill.yaml"
    )
    for ranks in (1, 2, 4, 8, 16, 32, 64, 128):
        assert list(check.share_problems(recipe, ranks)) == []
    assert recipe.ranks_per_group(64) == 8
    assert list(check.share_problems(recipe, 24))
    large = recipes.load(
        DistillRecipe, tiny.ROOT / "launch/recipes/ppminilm-6l-768h/distill-64-gpus.yaml"
    )
    assert large.model_copy(update={"output_dir": recipe.output_dir}) == recipe


def test_all_problems_are_said_at_once(problems_of):
    problems = problems_of(
        world_size=3,
        **{
            "teacher.layer": 9,
            "teacher.depth": 2,
            "student.layer": "top",
            "relations.heads": 7,
            "optimizer.warmup_steps": 99,
            "optimizer.beta1": 1,
            "data.shards": "/nowhere",
        },
    )
    fields = [problem.split(":")[0] for problem in problems]
    assert sorted(fields) == [
        "batch.global_batch_size",
        "data.shards",
        "optimizer",
        "optimizer.beta1",
        "relations.heads",
        "student.layer",
        "teacher.depth",
        "teacher.layer",
    ]


def test_what_is_missing_hides_nothing_else(tiny_root, tmp_path):
    values = tiny.distill_values(tiny_root, tmp_path / "run", **{"relations.heads": 7})
    del values["output_dir"], values["data"], values["teacher"]["layer"]
    path = tiny.write_recipe(tmp_path / "distill.yaml", values)
    recipe, wrong = check.read(DistillRecipe, path)
    problems = check.problems(recipe, 1, wrong)
    assert [problem.split(":")[0] for problem in problems] == [
        "output_dir",
        "data",
        "teacher.layer",
        "relations.heads",
        "relations.heads",
    ]


@pytest.fixture
def teacher(tiny_root, tmp_path):
    """A copy of the tiny teacher, to be spoilt."""
    return shutil.copytree(tiny_root / "teacher", tmp_path / "teacher")


def spoil_config(teacher, **changes):
    message = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(message | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["T5Model"], "model_type": "t5"}, "is none of PPMiniLMModel"),
        ({"num_hidden_layers": 12}, "the weights have 3 layers, its config.json says 12"),
        ({"num_hidden_layers": 1e999}, "num_hidden_layers inf is not a whole number"),
        ({"hidden_act": "silu", "num_attention_heads": 5}, "hidden_act 'silu' is not among 'gelu'"),
        ({"hidden_act": "silu", "num_attention_heads": 5}, "is not a multiple of num_attention"),
        ({"max_position_embeddings": 20}, "has positions for 20 tokens"),
        ({"vocab_size": 30}, "vocab_size 30, but the shards' vocabulary has 64 entries"),
    ],
)
def test_a_teacher_that_does_not_fit(problems_of, teacher, changes, message):
    spoil_config(teacher, **changes)
    problems = problems_of(**{"teacher.path": str(teacher)})
    assert any(message in problem for problem in problems), problems
    assert all(problem.startswith(("teacher", "relations.heads")) for problem in problems)


def test_teacher_and_shards_of_different_vocabularies(problems_of, teacher):
    vocab.write(teacher / "vocab.txt", reversed(tiny.TOKENS))
    (problem,) = problems_of(**{"teacher.path": str(teacher)})
    assert "vocab.txt is not the vocabulary that the shards were made with" in problem
    (teacher / "vocab.txt").write_bytes(b"\xff")
    (problem,) = problems_of(**{"teacher.path": str(teacher)})
    assert "cannot read the vocabulary" in problem
    (teacher / "vocab.txt").unlink()
    (problem,) = problems_of(**{"teacher.path": str(teacher)})
    assert "no vocab.txt and no tokenizer.json" in problem
    model = {"type": "WordPiece", "vocab": {token: i for i, token in enumerate(tiny.TOKENS)}}
    (teacher / "tokenizer.json").write_text(json.dumps({"model": model}))
    assert problems_of(**{"teacher.path": str(teacher)}) == []
    model["vocab"] = {token: i for i, token in enumerate(reversed(tiny.TOKENS))}
    (teacher / "tokenizer.json").write_text(json.dumps({"model": model}))
    (problem,) = problems_of(**{"teacher.path": str(teacher)})
    assert "tokenizer.json is not the vocabulary that the shards were made with" in problem


def test_a_cased_teacher_and_lower_case_shards(problems_of, teacher):
    (teacher / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    (problem,) = problems_of(**{"teacher.path": str(teacher)})
    assert "do_lower_case of the teacher is false, but the shards were made with" in problem


def test_damaged_absent_and_pickled_weights(problems_of, teacher):
    file = teacher / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    (problem,) = problems_of(**{"teacher.path": str(teacher)})
    assert problem.startswith("teacher.weights: ") and "damaged" in problem
    file.unlink()
    (problem,) = problems_of(**{"teacher.path": str(teacher)})
    assert "no model.safetensors" in problem
    (teacher / "model_state.pdparams").write_bytes(b"")
    (problem,) = problems_of(**{"teacher.path": str(teacher)})
    assert "is a pickle and may run any code" in problem
    pickled = {"teacher.weights": "model_state.pdparams"}
    assert problems_of(**{"teacher.path": str(teacher)}, **pickled) == []


def test_a_run_directory_that_is_a_file(problems_of, tmp_path):
    (tmp_path / "file").write_text("")
    (problem,) = problems_of(output_dir=str(tmp_path / "file" / "run"))
    assert problem.startswith("output_dir: ") and "is a file, not a directory" in problem


def test_a_hugging_face_teacher_needs_no_more_than_its_files(problems_of, tmp_path):
    (tmp_path / "hf").mkdir()
    shutil.copy(foreign.write(tmp_path / "x", {}) / "config.json", tmp_path / "hf")
    spoil_config(tmp_path / "hf", vocab_size=64, max_position_embeddings=24)
    vocab.write(tmp_path / "hf" / "vocab.txt", tiny.TOKENS)
    (problem,) = problems_of(**{"teacher.path": str(tmp_path / "hf")})
    assert problem == f"teacher.weights: {tmp_path / 'hf'}: no model.safetensors"


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(["float32", "a\0b", "x" * 300, "/", ".", "~", -1, 0, 1, 2, 64]),
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def fields_of(model, prefix=""):
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if hasattr(field.annotation, "model_fields"):
            yield from fields_of(field.annotation, f"{prefix}{name}.")


@pytest.mark.parametrize("kind", [DistillRecipe, MaskedLMRecipe])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_recipe_is_right_or_its_problems_are_said(tiny_root, tmp_path_factory, kind, data):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    if kind is DistillRecipe:
        values = tiny.distill_values(tiny_root, folder)
    else:
        values = {
            "output_dir": str(folder),
            "model_dir": str(folder),
            "data": {"shards": str(tiny_root / "shards")},
            "batch": {"global_batch_size": 16, "relation_group_size": 4},
        }
    for _ in range(data.draw(st.integers(1, 4))):
        *parents, last = data.draw(st.sampled_from([*fields_of(kind), "x", "data.y"])).split(".")
        section = values
        for key in parents:
            if not isinstance(section.setdefault(key, {}), dict):
                section[key] = {}
            section = section[key]
        if data.draw(st.booleans()):
            section.pop(last, None)
        else:
            section[last] = data.draw(anything)
    path = tiny.write_recipe(folder / "recipe.yaml", values)
    try:
        recipe, wrong = check.read(kind, path)
    except UserError as error:
        assert str(path) in str(error)
        return
    problems = check.problems(recipe, data.draw(st.integers(1, 9)), wrong)
    assert all(isinstance(problem, str) and ":" in problem for problem in problems)
    assert wrong or kind.model_validate(yaml.safe_load(path.read_text())) == recipe


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40) | st.binary(max_size=40))
def test_any_file_is_a_recipe_or_an_error_for_people(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        recipe, wrong = check.read(DistillRecipe, path)
        assert check.problems(recipe, 1, wrong)
    except UserError as error:
        assert str(path) in str(error)


def test_the_command_prints_all_problems(tiny_root, tmp_path, capsys):
    values = tiny.distill_values(tiny_root, tmp_path / "run", **{"teacher.layer": 9, "x": 1})
    path = str(tiny.write_recipe(tmp_path / "distill.yaml", values))
    assert command.main(["check", "--config", path, "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem.split(":")[0] for problem in problems] == ["x", "teacher.layer"]
    assert command.main(["check", "--config", path]) == 2
    assert "2 problem(s)\n  x: unknown key" in capsys.readouterr().err
    assert command.main(["check", "--config", path, "--teacher.layer", "1"]) == 2
    del values["x"]
    path = str(tiny.write_recipe(tmp_path / "distill.yaml", values))
    assert command.main(["check", "--config", path, "--teacher.layer", "1"]) == 0
    assert "no problems found" in capsys.readouterr().out
    assert command.main(["check", "--config", str(tmp_path / "none.yaml")]) == 2


def test_checking_loads_no_model(tiny_root, tmp_path):
    path = tiny.write_recipe(tmp_path / "r.yaml", tiny.distill_values(tiny_root, tmp_path / "run"))
    code = (
        "import sys; from pretrain.__main__ import main; "
        f"code = main(['check', '--config', {str(path)!r}]); "
        "print(code, [m for m in ('paddle', 'paddlenlp') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "0 []"
