import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError


class Optimizer(recipes.Recipe):
    learning_rate: float = Field(6e-4, gt=0)
    """Peak learning rate."""
    warmup: int = 1
    """Steps."""
    total: int = 2
    """Steps."""

    @model_validator(mode="after")
    def _warmup_ends(self):
        if self.warmup >= self.total:
            message = f"warmup {self.warmup} leaves nothing of total {self.total}"
            raise recipes.wrong_together(message, "warmup", "total")
        return self


class Example(recipes.Recipe):
    name: str
    """Name of the run."""
    optimizer: Optimizer = Optimizer()
    """How weights are updated."""
    layers: tuple[int, ...] = ()
    """Layers, named from 1."""


def write(tmp_path, values):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_overrides_lie_over_the_file(tmp_path):
    path = write(tmp_path, {"name": "a", "optimizer": {"learning_rate": 0.1}})
    recipe = recipes.load(Example, path, ["--optimizer.learning_rate", "3e-5", "--layers=[1, 2]"])
    assert recipe.optimizer.learning_rate == 3e-5
    assert recipe.layers == (1, 2)


def test_all_problems_are_reported_at_once(tmp_path):
    path = write(tmp_path, {"nmae": "a", "optimizer": {"learning_rate": -1, "learning_rat": 2}})
    with pytest.raises(UserError) as caught:
        recipes.load(Example, path)
    text = str(caught.value)
    assert "4 problem(s)" in text
    assert "nmae: unknown key; did you mean 'name'?" in text
    assert "name: missing" in text
    assert "optimizer.learning_rate" in text and "-1" in text
    assert "optimizer.learning_rat: unknown key; did you mean 'learning_rate'?" in text


def test_a_section_is_checked_as_a_whole_even_when_a_field_of_it_is_wrong():
    values = {"optimizer": {"learning_rate": -1, "warmup": 3}, "layers": [1, "x", "y"]}
    with pytest.raises(UserError) as caught:
        recipes.check(Example, values, "test")
    for part in ("optimizer.learning_rate", "warmup 3 leaves", "layers.1", "layers.2", "name: mis"):
        assert part in str(caught.value)
    recipe, problems = recipes.examine(Example, values, {"name": "some"})
    assert recipe == Example(name="some")
    assert [*problems] == ["name", "optimizer.learning_rate", "layers.1", "layers.2", "optimizer"]
    assert values["optimizer"] == {"learning_rate": -1, "warmup": 3}


class Plain(recipes.Recipe):
    first: int = 1
    """A number."""
    second: int = 2
    """A larger number."""

    @model_validator(mode="after")
    def _ordered(self):
        if self.first >= self.second:
            raise ValueError("the order is wrong")
        return self


def test_a_validator_that_does_not_name_its_fields_waits_until_all_are_right():
    """Its message is never searched for names of fields."""
    _, problems = recipes.examine(Plain, {"first": "many", "second": 0})
    assert [*problems] == ["first", ""] and problems[""] == ""
    with pytest.raises(UserError, match=r"\(recipe\): the order is wrong"):
        recipes.check(Plain, {"first": 3}, "test")


def test_what_took_the_place_of_a_wrong_field_is_not_blamed():
    values = {"name": "a", "optimizer": {"warmup": 2, "total": "many"}}
    _, problems = recipes.examine(Example, values)
    assert problems["optimizer"] == ""
    with pytest.raises(UserError, match=r"1 problem\(s\)\n  optimizer.total: "):
        recipes.check(Example, values, "test")


@pytest.mark.parametrize("text", [".inf", ".nan"])
def test_a_number_is_finite(tmp_path, text):
    with pytest.raises(UserError, match=r"optimizer\.learning_rate: .*finite"):
        recipes.load(Example, write(tmp_path, {"name": "a"}), ["--optimizer.learning_rate", text])


@pytest.mark.parametrize("text", ["[", "2020-13-01", "1" * 5000, "[" * 5000])
def test_an_override_that_is_not_yaml_is_said(tmp_path, text):
    with pytest.raises(UserError, match="--name: not valid YAML"):
        recipes.load(Example, write(tmp_path, {"name": "a"}), ["--name", text])


def test_the_saved_recipe_loads_as_the_same(tmp_path):
    recipe = Example(name="中文", layers=(1, 6))
    recipes.save(recipe, tmp_path / "resolved.yaml")
    assert recipes.load(Example, tmp_path / "resolved.yaml") == recipe


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"a: [", "not valid YAML"), (b"- 1", "a mapping"), (b"\xff\xfe\x00", "not valid YAML")],
)
def test_what_is_not_a_recipe_is_said(tmp_path, content, expected):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        recipes.read_yaml(path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot read the recipe"):
        recipes.read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("arguments", [["name", "x"], ["--name"], ["--"]])
def test_a_bad_override_is_said(arguments):
    with pytest.raises(UserError):
        recipes.parse_overrides(arguments)


def test_an_override_through_a_value_is_said(tmp_path):
    with pytest.raises(UserError, match="'name' is a value, not a section"):
        recipes.load(Example, write(tmp_path, {"name": "a"}), ["--name.x", "1"])


keys = st.text(string.ascii_lowercase, min_size=1, max_size=3)
values = st.recursive(
    st.integers(), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(keys, values, max_size=3))
def test_nothing_differs_from_itself(mapping):
    assert recipes.differences(mapping, mapping) == []


def test_differences_name_the_field_and_both_values():
    found = recipes.differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    assert found == ["a.c: was 2, is now 3"]


@given(st.dictionaries(keys, values, max_size=4))
def test_any_mapping_is_a_recipe_or_a_users_error(mapping):
    try:
        recipes.check(Example, mapping, where="fuzz")
    except UserError as error:
        assert "problem(s)" in str(error)
