"""tokenizer.json: the WordPiece encoder of this project for the `tokenizers` library.

`tokenizers` has BERT's own steps. PaddleNLP's tokenizer, which this project's shards follow, also
splits at Unicode's symbols, so a step that isolates them is added.
"""

from pathlib import Path

from data_pipeline.base.files import write_atomically
from data_pipeline.text.encode import LONGEST_WORD
from data_pipeline.text.vocab import SPECIAL

SYMBOL = r"[\p{S}\x{AD}²ºµØŋƱ〇]"  # as `data_pipeline.text.encode.is_symbol`


def write_tokenizer_json(path: Path, tokens: list[str], lower_case: bool) -> None:
    """Write the tokenizer of a vocabulary; texts become `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`.

    lower_case: also strip accents.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )

    ids = {token: number for number, token in enumerate(tokens)}
    library = Tokenizer(
        models.WordPiece(ids, unk_token=SPECIAL["unk"], max_input_chars_per_word=LONGEST_WORD)
    )
    library.add_special_tokens([AddedToken(t, normalized=False) for t in SPECIAL.values()])
    library.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=lower_case,
        lowercase=lower_case,
    )
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(Regex(SYMBOL), "isolated")]
    )
    cls, sep = SPECIAL["cls"], SPECIAL["sep"]
    library.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, ids[token]) for token in (cls, sep)],
    )
    library.decoder = decoders.WordPiece(prefix="##")
    write_atomically(path, library.to_str(pretty=True))
