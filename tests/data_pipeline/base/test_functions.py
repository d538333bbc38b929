import pytest
from pydantic import ValidationError

from data_pipeline.base.errors import UserError
from data_pipeline.base.functions import FunctionName, function_digest, load_function
from data_pipeline.base.recipes import Recipe


class Example(Recipe):
    rule: FunctionName
    """A function."""


@pytest.mark.parametrize("name", ["module", "a:b:c", "a b:c", ":f", "m:", "../m:f"])
def test_other_names_are_refused(name):
    with pytest.raises(ValidationError):
        Example(rule=name)


def test_a_function_is_found_by_its_name():
    assert load_function(Example(rule="os.path:basename").rule)("/a/b") == "b"


def test_a_module_that_fails_while_it_is_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "fails_in_test_functions.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"fails_in_test_functions: ZeroDivisionError"):
        load_function("fails_in_test_functions:rule")


def test_a_missing_function_is_named_in_modules_without_a_file_too():
    for name, where in (("sys:rule", "sys"), ("os.path:rule", "posixpath.py")):
        with pytest.raises(UserError, match=f"{name}: .*{where} has no function rule"):
            load_function(name)


def test_a_changed_module_has_another_digest(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for number in (1, 2):
        text = f"def rule(text):\n    return text, {number}\n"
        (tmp_path / f"digest_of_test_functions_{number}.py").write_text(text)
    first, second = (function_digest(f"digest_of_test_functions_{n}:rule") for n in (1, 2))
    assert first != second and len(first) == 64
