"""Lines to sentences: pure functions that lose no character."""

import re

ENDS, CLOSERS = "。！？!?…", "”’」』）)】》\"'"
SENTENCE = re.compile(
    "(?:“[^“”\n]{0,200}”|「[^「」\n]{0,200}」|『[^『』\n]{0,200}』|[“「『]"
    rf"|[^“「『{ENDS}\n]+)*"
    rf"(?:[{ENDS}]+[{CLOSERS}]*|\Z)"
)
NEXT_SPEAKER = re.compile(f"(?<=[{ENDS}][”」』])(?=[“「『])")
QUOTE = re.compile("[“「『]")
COMMAS = "，、；：,;: "


def split_sentences(line: str) -> list[str]:
    """Cut after 。！？!?… and the closing marks that follow; their concatenation is `line`.

    Quotations of up to 200 characters stay in one piece, with what surrounds them; one whole
    quotation after another is another sentence.
    """
    sentences = [sentence for sentence in SENTENCE.findall(line) if sentence]
    if QUOTE.search(line):
        sentences = [turn for sentence in sentences for turn in NEXT_SPEAKER.split(sentence)]
    return sentences


def split_long(sentence: str, max_chars: int) -> list[str]:
    """Parts of at most `max_chars` characters, cut after a comma if the second half of one has any.

    Their concatenation is `sentence`.
    """
    if len(sentence) <= max_chars:
        return [sentence]
    parts, start = [], 0
    while len(sentence) - start > max_chars:
        stop = start + max_chars
        comma = max(sentence.rfind(mark, start + max_chars // 2, stop) for mark in COMMAS) + 1
        end = comma or stop
        parts.append(sentence[start:end])
        start = end
    return [*parts, sentence[start:]]
