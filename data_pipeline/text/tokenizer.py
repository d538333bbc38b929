"""The tokenizer files of a model directory: a vocabulary, and how text is prepared for it.

    vocab.txt                one token a line; or tokenizer.json, from which the same is read
    tokenizer_config.json    `do_lower_case`, as PaddleNLP and Hugging Face write it

Both decide the ids of a text, so they travel together from the shards to the last model.
"""

import json
from pathlib import Path
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.base.files import write_json
from data_pipeline.text import vocab

VOCABULARY = "vocab.txt"
TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
UNLIMITED = 1_000_000


def vocabulary_file(directory: Path | str) -> Path:
    """vocab.txt of a model directory, or else its tokenizer.json; UserError when it has neither."""
    for name in (VOCABULARY, TOKENIZER):
        if (Path(directory) / name).is_file():
            return Path(directory) / name
    raise UserError(
        f"{directory}: no {VOCABULARY} and no {TOKENIZER}, so the ids of its tokens are unknown; "
        "copy the file from where the model came from"
    )


def is_lower_case(directory: Path | str) -> bool:
    """Whether text is lower-cased, and accents are removed, before it is looked up.

    That is `do_lower_case` of tokenizer_config.json, else `lowercase` of tokenizer.json, else true,
    as in both libraries. UserError when the files ask for what this project's encoder does not do.
    """
    directory = Path(directory)
    config = _mapping(directory / CONFIG)
    normalizer = _mapping(directory / TOKENIZER).get("normalizer") or {}
    lower_case = config.get("do_lower_case", normalizer.get("lowercase", True))
    if not isinstance(lower_case, bool):
        raise UserError(f"{directory / CONFIG}: do_lower_case is {lower_case!r}, not true or false")
    # Other values than these give other ids than `data_pipeline.text.encode` does.
    for name, value in (("tokenize_chinese_chars", True), ("strip_accents", lower_case)):
        if config.get(name) not in (None, value):
            raise UserError(
                f"{directory / CONFIG}: {name} {config[name]!r} with do_lower_case {lower_case} "
                f"is not supported; only {value!r} is"
            )
    return lower_case


def read(directory: Path | str) -> tuple[list[str], bool]:
    """(tokens in the order of their ids, `is_lower_case`) of a model directory."""
    return vocab.read(vocabulary_file(directory)), is_lower_case(directory)


def write(
    directory: Path, tokens: list[str], lower_case: bool, tokenizer_class: str = "BertTokenizer"
) -> None:
    """Write vocab.txt and tokenizer_config.json."""
    vocab.write(directory / VOCABULARY, tokens)
    config = {"do_lower_case": lower_case, "tokenizer_class": tokenizer_class}
    write_json(directory / CONFIG, config)


def copy(source: Path, directory: Path, tokenizer_class: str = "BertTokenizer") -> None:
    """Write the tokenizer of the model directory `source` into `directory`."""
    write(Path(directory), *read(source), tokenizer_class)


def longest_text(directory: Path) -> int | None:
    """`model_max_length` of tokenizer_config.json: tokens to which a text is cut; None if unset."""
    value = _mapping(Path(directory) / CONFIG).get("model_max_length")
    # transformers writes 10^30 for "no limit"
    return value if isinstance(value, int) and 0 < value < UNLIMITED else None


def differences(one: Path, other: Path) -> list[str]:
    """Why the tokenizers of two model directories give a text other ids; empty when they do not."""
    (tokens, case), (other_tokens, other_case) = read(one), read(other)
    problems = [] if tokens == other_tokens else ["the vocabularies differ"]
    if case != other_case:
        problems.append(f"do_lower_case is {case} in one and {other_case} in the other")
    return problems


def _mapping(path: Path) -> dict[str, Any]:
    """A JSON object, {} where there is no such file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: unreadable: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a mapping")
    return values
