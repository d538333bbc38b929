"""Small real text, and recipes over it."""

from pathlib import Path

import pytest
import yaml
from hypothesis import settings

from data_pipeline.base.recipes import check
from data_pipeline.recipe import BuildRecipe
from data_pipeline.sources import packaged
from data_pipeline.text import vocab
from data_pipeline.text.samples import Ragged

# A busy machine is no failure, and every run tries the same examples.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def news() -> list[str]:
    """The first 300 news of iNEWS, 1 MB."""
    titles, bodies, _ = packaged.inews("train")
    return [f"{title}\n{body}" for title, body in zip(titles[:300], bodies[:300], strict=True)]


@pytest.fixture(scope="session")
def vocab_file(news, tmp_path_factory) -> Path:
    """A vocabulary with every character of the news, some pieces and the alphabet."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = dict.fromkeys(vocab.SPECIAL.values())
    tokens |= dict.fromkeys(sorted({c for text in news for c in text.lower() if not c.isspace()}))
    tokens |= dict.fromkeys([*letters, *(f"##{c}" for c in letters)])
    tokens |= dict.fromkeys(["the", "good", "##ing", "##on", "20", "##18", "##pp", "°", "€", "é"])
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    vocab.write(path, tokens)
    return path


@pytest.fixture
def corpus(news, tmp_path) -> Path:
    """The news as six text files in two folders, blank lines between documents."""
    for number in range(6):
        path = tmp_path / "corpus" / f"{number % 2}" / f"part-{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = ("\n".join(filter(None, text.split("\n"))) for text in news[number::6])
        path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return tmp_path / "corpus"


@pytest.fixture
def recipe(tmp_path, vocab_file):
    """A function that makes a recipe of the given sections over small defaults."""

    def make(**sections) -> BuildRecipe:
        values = {
            "output_dir": str(tmp_path / "shards"),
            "vocab": {"file": str(vocab_file)},
            "piece_mb": 0.2,
            **sections,
        }
        values["run"] = {"workers": 1, **values.get("run", {})}
        return check(BuildRecipe, values, "test")

    return make


@pytest.fixture
def recipe_file(tmp_path):
    """A function that writes a recipe down for the command line."""

    def write(recipe: BuildRecipe) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), allow_unicode=True))
        return path

    return write


@pytest.fixture
def ragged():
    """A function that makes samples with [CLS] 2 and [SEP] 3 of given lengths."""
    import numpy as np

    def make(lengths, vocab_size: int = 1000, seed: int = 0) -> Ragged:
        random = np.random.default_rng(seed)
        offsets = np.cumsum([0, *lengths]).astype(np.int64)
        ids = random.integers(5, vocab_size, offsets[-1]).astype(np.uint32)
        starts = random.integers(0, 2, offsets[-1]).astype(np.uint8)
        ids[offsets[:-1]], ids[offsets[1:] - 1] = 2, 3
        starts[offsets[:-1]] = starts[offsets[1:] - 1] = 1
        return Ragged(ids, offsets, starts)

    return make


@pytest.fixture
def shard_directory(ragged, tmp_path):
    """A function that writes shards of the given numbers of samples, with manifest and vocab."""
    import numpy as np

    from data_pipeline.shards import format as shards

    def make(*counts: int, longest: int = 32) -> Path:
        folder = tmp_path / "made"
        tokens = [*vocab.SPECIAL.values(), *(str(i) for i in range(995))]
        vocab.write(folder / "vocab.txt", tokens)
        infos, lengths = [], []
        for number, count in enumerate(counts):
            sizes = np.random.default_rng(number).integers(3, longest + 1, count)
            lengths.append(sizes)
            path = folder / shards.shard_name(number)
            infos.append(shards.write_shard(path, ragged(sizes, seed=number), len(tokens)))
        lengths = np.concatenate(lengths)
        shards.Manifest(
            format_version=shards.FORMAT_VERSION,
            vocab_size=len(tokens),
            vocab_sha256=vocab.sha256(tokens),
            special_ids=vocab.special_ids(tokens),
            max_length=longest,
            samples=len(lengths),
            tokens=int(lengths.sum()),
            unk_share=0.0,
            shards=infos,
            length_histogram=np.bincount(lengths, minlength=longest + 1).tolist(),
            settings={},
        ).write(folder)
        return folder

    return make
