"""Which characters are Han: one definition for cleaning and for the tokenizer."""

import re

# The ranges that BERT's tokenizer surrounds with spaces, one character a token
# (google-research/bert, tokenization.py, `_is_chinese_char`).
HAN_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
HAN_RUN = re.compile("[" + "".join(f"{chr(a)}-{chr(b)}" for a, b in HAN_RANGES) + "]+")


def is_han(char: str) -> bool:
    """Whether one character is a Han character."""
    code = ord(char)
    return any(first <= code <= last for first, last in HAN_RANGES)


def count_han(text: str) -> int:
    """How many Han characters a text has."""
    return len(text) - len(HAN_RUN.sub("", text))
