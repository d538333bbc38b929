"""Texts in, vectors out, from an encoder directory or its export."""

from pathlib import Path

import numpy as np

from data_pipeline.base.errors import UserError
from data_pipeline.base.recipes import check
from finetune.deploy.backends import open_backend, outputs_of, read_deploy
from finetune.settings import EmbeddingSettings
from finetune.tasks import Example
from finetune.training.batches import encode


class Embedder:
    """A directory that `export` wrote for embeddings, or an encoder's, ready to embed texts.

    settings: of an encoder directory; an export has its own. `threads` are those of one call.
    """

    def __init__(
        self,
        directory: Path | str,
        settings: EmbeddingSettings | None = None,
        threads: int = 2,
        batch_size: int = 32,
    ):
        from data_pipeline.text.encode import WordPieceEncoder

        directory = Path(directory)
        if not directory.is_dir():
            raise UserError(f"{directory}: no such model directory")
        if (directory / "deploy.json").exists():
            self.settings = exported_settings(directory, settings)
            self.backend = open_backend(directory, threads)
        else:
            from finetune.deploy.backend_paddle import DynamicBackend
            from finetune.deploy.sentence_encoder import load_sentence_encoder

            self.settings = settings or EmbeddingSettings()
            self.backend = DynamicBackend(load_sentence_encoder(directory, self.settings))
        self.encoder = WordPieceEncoder.of_directory(directory)
        self.batch_size = batch_size

    def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, H], in order; UserError for an empty text."""
        if not texts:
            raise UserError("no text to embed")
        for number, text in enumerate(texts, 1):
            if not text or not text.strip():
                raise UserError(f"text {number} is empty")
        examples = [Example(text) for text in texts]
        data = encode(self.encoder, examples, self.settings.max_length)
        return np.stack(outputs_of(self.backend, data, self.batch_size))

    def cosines(self, texts: list[str], pairs: list[str]) -> np.ndarray:
        """float32 [n]: the cosine of each text's vector and its pair's."""
        vectors = self.embed([*texts, *pairs])
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return (vectors[: len(texts)] * vectors[len(texts) :]).sum(1)


def exported_settings(directory: Path, asked: EmbeddingSettings | None) -> EmbeddingSettings:
    """How an exported directory embeds; UserError when it does not, or not as `asked`."""
    deploy = read_deploy(directory)
    if deploy.get("kind") != "embedding":
        raise UserError(
            f"{directory}: a model for {deploy.get('kind', 'classification')}, which gives no "
            "vectors; export an encoder (`encoder` in the recipe of export)"
        )
    own = check(EmbeddingSettings, deploy.get("embedding", {}), f"{directory}/deploy.json")
    if asked is not None and asked != own:
        raise UserError(
            f"{directory}: was exported with {own.in_words}, and {asked.in_words} is asked for; "
            "leave the options out or export it again"
        )
    return own
