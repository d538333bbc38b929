"""Every command line in the READMEs and the documentation is one that the program understands: its
options exist, its overrides name fields of the recipe, its files are there where the repository has
them. What can be run in a minute is run by other tests."""

import argparse
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from data_pipeline.base import recipes
from data_pipeline.recipe import BuildRecipe
from finetune.__main__ import COMMANDS as FINETUNE
from launch.stages import StageList
from pretrain.recipe import DistillRecipe, MaskedLMRecipe
from tests.docs.pages import PAGES, ROOT, blocks, command_lines

TRAINING = (DistillRecipe, MaskedLMRecipe)
RECIPES = {
    "data_pipeline build": (BuildRecipe,),
    "pretrain check": TRAINING,
    "pretrain probe": TRAINING,
    "launch": TRAINING,
    "launch plan": TRAINING,
    **{f"finetune {name}": (item.recipe,) for name, item in FINETUNE.items()},
}
ALL = {model for models in RECIPES.values() for model in models} | {StageList}
SUBCOMMANDS_OF_LAUNCH = ("doctor", "plan", "stages", "watch")
OTHER_PROGRAMS = {
    *("./classify", "cd", "curl", "docker", "g++", "git", "grep", "huggingface-cli", "iconv"),
    *("nvidia-smi", "pip"),
    *("sbatch", "source", "visualdl"),
}
PLACEHOLDERS = {"N": "0", "RUN...": "runs/a"}
INLINE = re.compile(r"`((?:python -m|python benchmarks/|make) [^`]+)`")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fenced(page: Path) -> list[tuple[str, ...]]:
    shells = [b for b in blocks(page) if b.language in ("bash", "sh", "") and not b.title]
    lines = []
    for block in shells:
        programs = {"python", "make", *OTHER_PROGRAMS}
        is_shell = block.language or block.text.split(maxsplit=1)[0] in programs
        lines += [tuple(words) for words in command_lines(block.text)] if is_shell else []
    return lines


def inline(page: Path) -> list[tuple[str, ...]]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [tuple(shlex.split(line.replace("\n", " "))) for line in INLINE.findall(text)]


FENCED = sorted({(name_of(page), line) for page in PAGES for line in fenced(page)})
SHORT = sorted({(name_of(page), line) for page in PAGES for line in inline(page)})


class Understood(Exception):
    """The outermost parser has parsed the whole line."""

    def __init__(self, options: argparse.Namespace, rest: list[str]):
        super().__init__()
        self.options, self.rest = options, rest


class Refused(Exception):
    """What a parser says of a line that it does not understand."""


@pytest.fixture
def parse(monkeypatch):
    """A function from a package and arguments to (options, what they leave); nothing is run."""
    depth = 0
    real = argparse.ArgumentParser.parse_known_args

    def parse_known_args(self, args=None, namespace=None):
        nonlocal depth
        depth += 1
        try:
            result = real(self, args, namespace)
        finally:
            depth -= 1
        if depth == 0:
            raise Understood(*result)
        return result

    def error(self, message):
        raise Refused(message)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
    monkeypatch.setattr(argparse.ArgumentParser, "error", error)

    def parsed(package: str, arguments: list[str]):
        with pytest.raises(Understood) as end:
            importlib.import_module(f"{package}.__main__").main(arguments)
        return end.value.options, end.value.rest

    return parsed


def fields(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """Each field of a recipe, and the section that it holds."""
    result: dict[str, type[BaseModel] | None] = {}
    for name, field in model.model_fields.items():
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        sections = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        result[name] = sections[0] if sections else None
    return result


def has_field(model: type[BaseModel] | None, key: str) -> bool:
    for part in key.split("."):
        if model is None or part not in fields(model):
            return False
        model = fields(model)[part]
    return True


def command_of(package: str, arguments: list[str]) -> str:
    if package == "launch" and arguments[0] not in SUBCOMMANDS_OF_LAUNCH:
        return package
    return f"{package} {arguments[0]}"


def check_program(parse, package: str, arguments: list[str]) -> None:
    arguments = [PLACEHOLDERS.get(word, word) for word in arguments]
    options, rest = parse(package, arguments)
    command = command_of(package, arguments)
    for key, _ in recipes.parse_overrides(rest):
        assert any(has_field(model, key) for model in RECIPES.get(command, ())), key
    for name in ("config", "recipe", "file"):
        path = Path(getattr(options, name, None) or "")
        if path.parts[:2] == ("launch", "recipes"):
            assert (ROOT / path).is_file(), path


def check_script(words: list[str]) -> None:
    """A script of the repository: it is there, and has the options."""
    script = ROOT / words[0]
    text = script.read_text(encoding="utf-8")
    if script.parent.name == "pretrain":
        assert words[1] == "--config" and (ROOT / words[2]).is_file()
        return
    for word in words[1:]:
        assert not word.startswith("--") or f'"{word.split("=")[0]}"' in text, word


def check_line(parse, words: tuple[str, ...]) -> None:
    match list(words):
        case ["make", *targets]:
            for target in targets:
                assert "=" in target or re.search(rf"^{target}:", MAKEFILE, re.M), target
        case ["python", "-c", code]:
            compile(code, "a page", "exec")
        case ["python", "-m", "pytest", *paths]:
            assert all((ROOT / path).exists() for path in paths if path[0] != "-")
        case ["python", "-m", "paddle.distributed.launch", "--nproc_per_node", _, *rest]:
            check_script(rest)
        case ["python", "-m", package, *arguments]:
            check_program(parse, package, arguments)
        case ["python", script, *arguments]:
            check_script([script, *arguments])
        case ["docker", "build", "-f", path, *_]:
            assert (ROOT / path).is_file()
        case ["docker", "run", *rest] if "ppminilm-fleet" in rest:
            package, *arguments = rest[rest.index("ppminilm-fleet") + 1 :]
            check_program(parse, package, arguments)
        case [program, *_]:
            assert program in OTHER_PROGRAMS


@pytest.mark.parametrize(("page", "words"), FENCED, ids=lambda value: "")
def test_a_command_line_is_understood(page, words, parse):
    check_line(parse, words)


@pytest.mark.parametrize(("page", "words"), SHORT, ids=lambda value: "")
def test_a_command_in_the_text_exists(page, words, parse, capsys):
    """It may lack required arguments, and may name several commands: `build|inspect`."""
    if words[:2] != ("python", "-m") or words[2] in ("pytest", "paddle.distributed.launch"):
        check_line(parse, words)
        return
    _, _, package, *arguments = words
    for name in (arguments or ["--help"])[0].split("|"):
        if name == "--help":
            assert importlib.util.find_spec(f"{package}.__main__")
            continue
        try:
            check_program(parse, package, [name, *arguments[1:]])
        except Refused as error:
            assert str(error).startswith("the following arguments are required"), error
            with pytest.raises(SystemExit):
                importlib.import_module(f"{package}.__main__").main([name, "--help"])
            text = capsys.readouterr().out
            assert all(word in text for word in arguments[1:] if word.startswith("--")), words


YAML = [
    (name_of(page), block.text)
    for page in PAGES
    for block in blocks(page)
    if block.language == "yaml"
]


@pytest.mark.parametrize(("page", "text"), YAML, ids=lambda value: "")
def test_a_recipe_in_a_page_is_valid(page, text):
    """Also a part of one: only fields that it leaves out may be missing."""
    values = yaml.safe_load(text)
    problems = []
    for model in sorted(ALL, key=lambda model: model.__name__):
        _, wrong = recipes.examine(model, values)
        real = [t for t in wrong.values() if t and not t.endswith("it has no default")]
        if not real:
            return
        problems.append((model.__name__, real))
    pytest.fail(f"{page}: {min(problems, key=lambda item: len(item[1]))}")


def test_dotted_options_in_the_text_are_fields():
    for page in PAGES:
        for key in re.findall(r"`--([a-z_]+\.[a-z_.0-9]+)[ =`]", page.read_text(encoding="utf-8")):
            known = any(has_field(model, key) for model in ALL)
            assert known or key == "key.subkey", f"{name_of(page)}: --{key}"
