"""`python -m docs.generators.recipe_reference`: docs/recipes.md from the typed recipes.

Names, types, bounds, defaults and descriptions are those of the code; nothing is written by hand
but the list of recipes.
"""

import json
from pathlib import Path
from typing import Any

from data_pipeline.base.recipes import Recipe
from data_pipeline.recipe import BuildRecipe
from finetune import recipes as finetune
from launch.stages import StageList
from pretrain.recipe import DistillRecipe, MaskedLMRecipe

PAGE = Path(__file__).parents[1] / "recipes.md"
RECIPES: dict[str, type[Recipe]] = {
    "python -m data_pipeline build": BuildRecipe,
    "python -m launch (distillation)": DistillRecipe,
    "python -m launch (masked language model)": MaskedLMRecipe,
    "python -m launch stages": StageList,
    "python -m finetune compress": finetune.CompressRecipe,
    "python -m finetune train": finetune.TrainRecipe,
    "python -m finetune search": finetune.SearchRecipe,
    "python -m finetune clue": finetune.ClueRecipe,
    "python -m finetune prune": finetune.PruneRecipe,
    "python -m finetune sparsify": finetune.SparseRecipe,
    "python -m finetune qat": finetune.QatRecipe,
    "python -m finetune export": finetune.ExportRecipe,
    "python -m finetune quantise": finetune.QuantiseRecipe,
    "python -m finetune text_in": finetune.TextInRecipe,
    "python -m finetune sweep": finetune.SweepRecipe,
    "python -m finetune report": finetune.ReportRecipe,
    "python -m finetune serve": finetune.ServeRecipe,
}
HEAD = """\
# Recipe reference

Generated from the typed settings by `make docs`; a test compares it with them. Do not edit it.

A recipe is a YAML file. Any value can be given on the command line, with dots for sections:
`--clean.min_chars 6`. A field without a default must be given. An unknown key is an error that
names the nearest one, a value out of its bounds is an error that names the bounds, and all problems
of a recipe are reported at once. `null` stands for "none".

"""
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "{} or more",
}
KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
}


def page() -> str:
    """The whole page."""
    schemas = {title: model.model_json_schema() for title, model in RECIPES.items()}
    sections: dict[str, dict[str, Any]] = {}
    for schema in schemas.values():
        for name, section in schema.get("$defs", {}).items():
            if sections.setdefault(name, section) != section:
                raise ValueError(f"two sections are called {name}")
    parts = [HEAD]
    for title, schema in schemas.items():
        about = paragraph(schema.get("description", ""))
        about = "" if about.startswith(f"`{title}`") else f"{about}\n\n"
        parts.append(f"## {title}\n\n{about}{table(schema, sections)}\n")
    parts.append("## Sections\n\nOf the recipes above, in the order of the alphabet.\n")
    for name in sorted(sections):
        about = paragraph(sections[name].get("description", ""))
        parts.append(f"### {name}\n\n{about}\n\n{table(sections[name], sections)}\n")
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def table(schema: dict[str, Any], sections: dict[str, dict[str, Any]]) -> str:
    """The fields of one recipe or section."""
    lines = ["| field | value | default | |", "|---|---|---|---|"]
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        section = sections.get(field.get("$ref", "").rsplit("/", 1)[-1], {})
        default = "**required**" if name in required else default_text(field, section)
        about = paragraph(field.get("description") or section.get("description", ""))
        cells = (f"`{name}`", kind(field), default, about.replace("|", "\\|"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kind(field: dict[str, Any]) -> str:  # noqa: PLR0911 (one for each form of a schema)
    """Type and bounds of a field, in words."""
    if "$ref" in field:
        return link(field["$ref"])
    if "anyOf" in field:
        return " or ".join(kind(option) for option in field["anyOf"])
    if "const" in field:
        return f"`{json.dumps(field['const'], ensure_ascii=False).strip(chr(34))}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    bounds = [text.format(field[key]) for key, text in BOUNDS.items() if key in field]
    if field.get("type") == "array":
        inner = kind(field["items"])
        return ", ".join([f"list of: {inner}", *bounds])
    if field.get("type") == "object":
        return f"mapping of names to: {kind(field.get('additionalProperties', {}))}"
    if field.get("type") == "null":
        return "`null`"
    name = "path" if field.get("format") == "path" else KINDS.get(field.get("type", ""), "any")
    return ", ".join([name, *bounds])


def link(reference: str) -> str:
    """A link to the section of that name."""
    name = reference.rsplit("/", 1)[-1]
    return f"[{name}](#{name.lower()})"


def default_text(field: dict[str, Any], section: dict[str, Any]) -> str:
    """The default as YAML would have it; of a section, the values that differ from its own."""
    default = field.get("default")
    if section and isinstance(default, dict):
        fields = section["properties"]
        own = {name: fields[name].get("default") for name in default}
        changed = {name: value for name, value in default.items() if value != own[name]}
        return f"`{yaml_of(changed)}`" if changed else "the section's"
    return f"`{yaml_of(default)}`" if "default" in field else "empty"


def yaml_of(value: Any) -> str:
    """One line of YAML."""
    return json.dumps(value, ensure_ascii=False).replace('"', "") if value != "" else '""'


def paragraph(text: str) -> str:
    """A docstring on one line."""
    return " ".join(text.split())


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
