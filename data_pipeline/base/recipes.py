"""Typed recipes: YAML plus `--key.subkey value`, checked whole before anything is loaded.

A recipe is a pydantic model with a docstring under each field. All problems of a recipe are
reported at once, each with its field, its value and what would be valid; an unknown key is an
error that names its nearest neighbour.
"""

import copy
import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

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


def load(model: type[R], path: Path | str, overrides: list[str] | None = None) -> R:
    """Read `path`, lay `overrides` (`["--key.subkey", "value", ...]`) over it, check the whole.

    Raises UserError with every problem found.
    """
    return check(model, values_of(path, overrides), where=str(path))


def values_of(path: Path | str, overrides: list[str] | None = None) -> dict[str, Any]:
    """What a recipe file says with `overrides` laid over it, not checked."""
    values = read_yaml(Path(path))
    for key, text in parse_overrides(overrides or []):
        _set(values, key, _parse(text, f"--{key}"))
    return values


def check(model: type[R], values: dict[str, Any], where: str) -> R:
    """The typed recipe for plain `values`, or a UserError that lists all that is wrong in them."""
    recipe, problems = examine(model, values)
    if problems or recipe is None:
        texts = [text for text in problems.values() if text]
        raise UserError(
            f"{where}: {len(texts)} problem(s)\n" + "\n".join(f"  {text}" for text in texts)
        )
    return recipe


def examine(
    model: type[R], values: dict[str, Any], stand_in: dict[str, Any] | None = None
) -> tuple[R | None, dict[str, str]]:
    """All that is wrong in `values`, by dotted field, and the recipe as it is without that.

    A section whose fields are wrong is checked as a whole only once they are right; so what is
    wrong is taken out (its default takes its place, or for a field that has none its value in
    `stand_in`) and the rest is checked again. A section that is then wrong because of what took the
    place of a field has no text. None when the recipe cannot be made even so.
    """
    values, problems = copy.deepcopy(values), {}
    while True:
        try:
            return model.model_validate(values), problems
        except ValidationError as error:
            items = error.errors()
        changes = [_mend(values, item, problems, model, stand_in or {}) for item in items]
        if not any(changes):
            return None, problems


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
        raise UserError(f"{path}: a recipe is a mapping of keys to values, found {values!r:.60}")
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
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: was {a!r}, is now {b!r}")
    return found


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2020-13-01
        raise UserError(f"{where}: not valid YAML: {error}") from None


def _mend(values: dict, item: dict, problems: dict, model: type[BaseModel], stand_in: dict) -> bool:
    """Note a problem and take its field out of `values`; whether that changed anything."""
    field = ".".join(str(part) for part in item["loc"])
    known = field in problems
    replaced = [name.rpartition(".")[2] for name in problems if name.startswith(f"{field}.")]
    is_due_to_it = any(re.search(rf"\b{re.escape(name)}\b", item["msg"]) for name in replaced)
    problems.setdefault(field, "" if is_due_to_it else _describe(model, item))
    if item["type"] == "missing":
        fitting = {k: v for k, v in stand_in.items() if f"{k}.".startswith(f"{field}.")}
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
    return not known


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for key in parents:
        child = values.setdefault(key, {})
        if not isinstance(child, dict):
            raise UserError(f"--{dotted}: {key!r} is a value, not a section")
        values = child
    values[last] = value


def _describe(model: type[BaseModel], item: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "(recipe)"
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
        return f"{field}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{field}: missing; it has no default"
    message = item["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(item["input"], dict) else f" (found {item['input']!r:.80})"
    return f"{field}: {message}{shown}"


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
        found = _model_in(part)
        if found is not None:
            return found
    return None
