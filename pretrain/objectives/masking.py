"""Whole-word masking from stored word boundaries: a pure function of arrays."""

import numpy as np

from pretrain.objectives.settings import Masking

IGNORED = -100  # label of a token that is not to be predicted


def mask_whole_words(
    input_ids: np.ndarray,
    word_start: np.ndarray,
    special_ids: dict[str, int],
    vocab_size: int,
    settings: Masking,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide whole words (https://arxiv.org/abs/1906.08101) until `settings.share` of the tokens.

    Args:
        input_ids: int64 [B, L].
        word_start: [B, L], 1 where a word begins.
        special_ids: of pad, cls, sep and mask; these are never hidden.
        vocab_size: random replacements are drawn from all ids that are not special.

    Returns:
        (what the model sees, labels), both int64 [B, L]; labels are IGNORED where nothing is asked.
    """
    ordinary = ~np.isin(input_ids, [special_ids[name] for name in ("pad", "cls", "sep")])
    word = np.cumsum(word_start.astype(np.int64), axis=1)  # [B, L], number of the word in its row
    word += (np.arange(len(word)) * (word.max() + 1))[:, None]  # unique over the batch
    lot = random.random(int(word.max()) + 1)[word]  # one draw a word
    hidden = ordinary & (lot < settings.share)
    labels = np.where(hidden, input_ids, IGNORED)
    kind = random.random(input_ids.shape)
    by_mask = hidden & (kind < settings.replace_by_mask)
    by_random = hidden & ~by_mask & (kind < settings.replace_by_mask + settings.replace_by_random)
    ordinary_ids = np.setdiff1d(np.arange(vocab_size), list(special_ids.values()))
    seen = np.where(by_mask, special_ids["mask"], input_ids)
    return np.where(by_random, random.choice(ordinary_ids, input_ids.shape), seen), labels
