"""Typed recipes: YAML plus `--key.subkey value`, checked whole before anything is loaded.

A recipe is a pydantic model with a docstring under each field. All problems of a recipe are
reported at once, each with its field, its value and what would be valid; an unknown key is an
error that names its nearest neighbour.
"""

import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, GetPydanticSchema, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_atomically


class Recipe(BaseModel):
    """Base of every recipe and of every section in one."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )


R = TypeVar("R", bound=Recipe)


def one_of(names: Iterable[str]) -> GetPydanticSchema:
    """`Annotated[str, one_of(TABLE)]` is a `Literal` of the names in a table, which a type checker
    could not read."""
    allowed = list(names)
    return GetPydanticSchema(lambda _source, _handler: core_schema.literal_schema(allowed))


def load(model: type[R], path: Path | str, overrides: list[str] | None = None) -> R:
    """Read `path`, apply `overrides` (`["--key.subkey", "value", ...]`), check the whole.

    Raises UserError with every problem found.
    """
    return check(model, values_of(path, overrides), where=str(path))


def values_of(path: Path | str, overrides: list[str] | None = None) -> dict[str, Any]:
    """The values of a recipe file, changed by `overrides`, not checked."""
    return overridden(read_yaml(Path(path)), overrides or [])


def overridden(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Plain values of a recipe, changed in place by `overrides`."""
    for key, text in parse_overrides(overrides):
        _set(values, key, _parse(text, f"--{key}"))
    return values


def check(model: type[R], values: dict[str, Any], where: str) -> R:
    """The typed recipe of plain `values`, or a UserError that lists every problem in them."""
    recipe, problems = examine(model, values)
    if problems or recipe is None:
        texts = [text for text in problems.values() if text]
        raise UserError(
            f"{where}: {len(texts)} problem(s)\n" + "\n".join(f"  {text}" for text in texts)
        )
    return recipe


def examine(
    model: type[R], values: dict[str, Any], placeholders: dict[str, Any] | None = None
) -> tuple[R | None, dict[str, str]]:
    """The recipe with every wrong value replaced, and {dotted field: what is wrong with it}.

    Pydantic checks a section as a whole only once its fields are right. So wrong values are taken
    out (the default takes their place, or for a field without one its value in `placeholders`) and
    the rest is checked again. A section that is wrong only because of such a replacement has an
    empty text. The recipe is None when it cannot be made even so.
    """
    values = copy.deepcopy(values)
    problems: dict[str, str] = {}
    while True:
        try:
            return model.model_validate(values), problems
        except ValidationError as error:
            items = error.errors()
        changes = [_replace(values, item, problems, model, placeholders or {}) for item in items]
        if not any(changes):
            return None, problems


def wrong_together(message: str, *fields: str) -> PydanticCustomError:
    """What a validator of a whole section raises: `message`, and the fields that it compares.

    When one of `fields` is wrong by itself, only that is reported, not the section.
    """
    context = {"message": message, "fields": fields}
    return PydanticCustomError("wrong_together", "{message}", context)


def save(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe, defaults included, so that the run can be repeated from it."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_atomically(path, text)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; UserError when there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    values = _parse(text, str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, not {values!r:.60}")
    return values


def parse_overrides(arguments: list[str]) -> list[tuple[str, str]]:
    """`["--a.b", "1", "--c=2"]` to `[("a.b", "1"), ("c", "2")]`."""
    pairs, rest = [], list(arguments)
    while rest:
        name = rest.pop(0)
        key, has_value, value = name.removeprefix("--").partition("=")
        if not name.startswith("--") or not key:
            raise UserError(f"unexpected argument {name!r}: overrides look like --key.subkey value")
        if not has_value:
            if not rest:
                raise UserError(f"--{key} needs a value")
            value = rest.pop(0)
        pairs.append((key, value))
    return pairs


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the fields in which two plain mappings differ, with both values."""
    changed = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            changed.append(f"{prefix}{key}: was {a!r}, is now {b!r}")
    return changed


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2020-13-01
        raise UserError(f"{where}: not valid YAML: {error}") from None


def _replace(
    values: dict,
    item: Mapping[str, Any],
    problems: dict[str, str],
    model: type[BaseModel],
    placeholders: dict[str, Any],
) -> bool:
    """Note one problem and take its value out of `values`; whether that changed anything."""
    field = ".".join(str(part) for part in item["loc"])
    is_new = field not in problems
    problems.setdefault(field, "" if _follows(item, field, problems) else _describe(model, item))
    if item["type"] == "missing":
        fitting = {k: v for k, v in placeholders.items() if f"{k}.".startswith(f"{field}.")}
        for name, value in fitting.items():
            _set(values, name, value)
        return bool(fitting)
    parent = values
    for part in item["loc"][:-1]:
        if not isinstance(parent.get(part), dict):
            return parent.pop(part, None) is not None  # an element of a list: the list goes
        parent = parent[part]
    if not item["loc"] or item["loc"][-1] not in parent:
        return False
    del parent[item["loc"][-1]]
    return is_new


def _follows(item: Mapping[str, Any], section: str, problems: dict[str, str]) -> bool:
    """Whether a section is wrong because a wrong field in it was replaced by its default.

    A validator that does not say which fields it compares may compare any of them.
    """
    if item["type"] == "too_short":  # pydantic counts the elements that are right
        return any(name.startswith(f"{section}.") for name in problems)
    if item["type"] not in ("wrong_together", "value_error"):
        return False
    prefix = f"{section}." if section else ""
    replaced = {name for name in problems if name.startswith(prefix) and name != section}
    compared = item.get("ctx", {}).get("fields")
    if compared is None:
        return bool(replaced)
    return any(
        f"{name}.".startswith(f"{prefix}{field}.") for name in replaced for field in compared
    )


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for key in parents:
        child = values.setdefault(key, {})
        if not isinstance(child, dict):
            raise UserError(f"--{dotted}: {key!r} is a value, not a section")
        values = child
    values[last] = value


def _describe(model: type[BaseModel], item: Mapping[str, Any]) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "(recipe)"
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the keys are: {', '.join(sorted(known))}"
        return f"{field}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{field}: missing; it has no default"
    error = item.get("ctx", {}).get("error")  # what a validator raised
    message = str(error) if error is not None else item["msg"]
    value = "" if isinstance(item["input"], dict) else f" (it is {item['input']!r:.80})"
    return f"{field}: {message}{value}"


def _fields_at(model: type[BaseModel], location: tuple) -> list[str]:
    for part in location:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is None:
            continue  # an index into a list, or the tag of a union
        nested = _model_in(field.annotation)
        if nested is None:
            return []
        model = nested
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        nested = _model_in(part)
        if nested is not None:
            return nested
    return None
