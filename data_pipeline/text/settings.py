"""The sections of a recipe that say what is done with text: cleaning, words, vocabulary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, create_model, model_validator

from data_pipeline.base.functions import FunctionName
from data_pipeline.base.recipes import Recipe, one_of, wrong_together
from data_pipeline.text.quality import PUBLISHED, SHARES
from data_pipeline.text.rules import DOCUMENT_RULES
from data_pipeline.text.words import SEGMENTERS


class _OtherLimits(Recipe):
    bad_words: Path | None = None
    """A file with a word a line; documents that hold one are left out."""
    min_chinese_confidence: float | None = Field(None, ge=0, le=1)
    """Documents that lingua takes for Chinese with less confidence are left out, such as Japanese
    ones with many Han characters; 0.5 is a fair limit. Needs the pip extra `language`."""


_SHARE_LIMITS: dict[str, Any] = {
    f"max_{name}": (
        float | None,
        Field(None, ge=0, le=1, description=f"{share.__doc__} Published: {PUBLISHED[name]}."),
    )
    for name, share in SHARES.items()
}
if TYPE_CHECKING:  # a checker cannot read the fields in a table
    Quality = _OtherLimits
else:
    Quality = create_model(
        "Quality",
        __base__=_OtherLimits,
        __doc__="Documents of low quality are left out. null is off; see text/quality.py.",
        **_SHARE_LIMITS,
    )


class _CleanLimits(Recipe):
    rules: tuple[FunctionName, ...] = ()
    """Rules of your own as `package.module:function`, applied after the others. Each takes the
    text of a document and returns (new text, number of places changed)."""
    split: bool = True
    """Cut lines into sentences at Chinese punctuation, never inside a short quotation."""
    max_chars: int = Field(512, ge=16)
    """Longer sentences are cut, at a comma where there is one. Nothing is lost."""
    min_chars: int = Field(4, ge=1)
    """Shorter sentences join the one before or after them; a short line without a Han character is
    left out (blanks do not count)."""
    min_chinese_share: float = Field(0.3, ge=0, le=1)
    """Documents with a smaller share of Han characters are left out."""
    min_sentence_chinese_share: float = Field(0.0, ge=0, le=1)
    """Sentences with a smaller share of Han characters are left out of documents that stay."""
    quality: Quality = Quality()
    """Limits for documents, all off by default."""


_SWITCHES: dict[str, Any] = {
    name: (bool, Field(rule.on_by_default, description=rule.apply.__doc__))
    for name, rule in DOCUMENT_RULES.items()
}
if TYPE_CHECKING:
    Clean = _CleanLimits
else:
    Clean = create_model(
        "Clean",
        __base__=_CleanLimits,
        __doc__="A switch for each document rule, and limits. Each has a counter in the manifest.",
        **_SWITCHES,
    )


class Words(Recipe):
    """Word boundaries for whole-word masking."""

    segmenter: Annotated[str, one_of(SEGMENTERS)] = "rjieba"
    """`jieba` is the reference; `rjieba` cuts the same way but for some ASCII runs, and faster."""
    hmm: bool = True
    """Let a hidden Markov model find words that the dictionary lacks."""


class VocabTraining(Recipe):
    """A vocabulary trained on the text of this build."""

    size: int = Field(21128, ge=100, le=1 << 20)
    """Tokens, the five special ones among them."""
    min_count: int = Field(2, ge=1)
    """Characters and pieces that occur less often become [UNK]."""
    sample_mb: int = Field(2000, ge=1)
    """MB of text to train on, spread evenly over the corpus."""


class Vocab(Recipe):
    """The vocabulary: `file` or `train`."""

    file: Path | None = None
    """A BERT vocab.txt."""
    train: VocabTraining | None = None
    """Train one on the cleaned text."""
    lower_case: bool = True
    """As the tokenizer of all published Chinese models does; also strips accents."""
    max_unk_share: float = Field(0.02, ge=0, le=1)
    """More [UNK] than this among the tokens is an error."""

    @model_validator(mode="after")
    def _one_origin(self):
        if (self.file is None) == (self.train is None):
            raise wrong_together("give either file or train", "file", "train")
        return self
