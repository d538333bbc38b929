"""Text for quality.py: the packaged corpora as shards, and a tiny teacher for its smoke size."""

from pathlib import Path

from data_pipeline.base import recipes
from data_pipeline.base.errors import UserError

RECIPE = Path(__file__).parent.parent / "launch" / "recipes" / "demo" / "data.yaml"
TEXTS = 600  # reviews in the smoke size's shards


def packaged_shards(directory: Path, teacher: Path) -> Path:
    """Shards of the packaged text in the teacher's vocabulary, built unless they are there."""
    from data_pipeline.building.build import build
    from data_pipeline.recipe import BuildRecipe

    if not (teacher / "vocab.txt").is_file():
        raise UserError(f"{teacher}: no vocab.txt; --teacher must be an encoder directory")
    changes = {
        "output_dir": directory,
        "vocab.file": teacher / "vocab.txt",
        "vocab.train": "null",
    }
    overrides = [word for key, value in changes.items() for word in (f"--{key}", str(value))]
    build(recipes.load(BuildRecipe, RECIPE, overrides), quiet=True)
    return directory


def make(work: Path) -> tuple[Path, Path]:
    """(shards, teacher): some reviews with a vocabulary of their own, and a random encoder."""
    from data_pipeline.base.files import write_atomically
    from data_pipeline.building.build import build
    from data_pipeline.recipe import BuildRecipe
    from data_pipeline.sources.packaged import reviews

    shards, teacher, text = work / "shards", work / "teacher", work / "reviews.txt"
    if not text.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_atomically(text, "\n".join(reviews("train")[0][:TEXTS]) + "\n")
    values = {
        "output_dir": str(shards),
        "sources": [{"path": str(text)}],
        "vocab": {"train": {"size": 1000, "min_count": 1}, "max_unk_share": 0.2},
        "max_length": 32,
        "run": {"workers": 1},
    }
    build(recipes.check(BuildRecipe, values, "smoke"), quiet=True)
    if not (teacher / "model.safetensors").exists():
        write_teacher(teacher, shards)
    return shards, teacher


def write_teacher(directory: Path, shards: Path) -> None:
    """A random BERT of 4 layers of 32 over the shards' vocabulary."""
    import paddle

    from data_pipeline.shards.format import Manifest
    from data_pipeline.text import vocab
    from pretrain.encoders.load import build_encoder
    from pretrain.encoders.settings import EncoderSizes
    from pretrain.encoders.student import encoder_config
    from pretrain.release.write import write_encoder

    paddle.seed(1)
    sizes = EncoderSizes(
        num_hidden_layers=4,
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    config = encoder_config("BertModel", sizes, Manifest.read(shards))
    tokens = vocab.read(shards / "vocab.txt")
    write_encoder(build_encoder(config), directory, tokens)
