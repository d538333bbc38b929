"""Lines to sentences: pure functions that lose no character."""

import re

ENDS, CLOSERS = "。！？!?…", "”’」』）)】》\"'"
SENTENCE = re.compile(
    "(?:“[^“”\n]{0,200}”|「[^「」\n]{0,200}」|『[^『』\n]{0,200}』|[“「『]"
    rf"|[^“「『{ENDS}\n]+"
    rf"|…++(?![{ENDS}{CLOSERS}]|\Z))*"  # a pause inside a sentence
    rf"(?:[{ENDS}]+[{CLOSERS}]*|\Z)"
)
NEXT_SPEAKER = re.compile(f"(?<=[{ENDS}][”」』])(?=[“「『])")
QUOTE = re.compile("[“「『]")
COMMAS = "，、；：,;: "


def split_sentences(line: str) -> list[str]:
    """Cut after 。！？!? and the closing marks that follow; their concatenation is `line`.

    …… ends a sentence where the line ends, a quotation is closed or another end follows. Quotations
    of up to 200 characters stay in one piece, with what surrounds them; one whole quotation after
    another is another sentence.
    """
    sentences = [sentence for sentence in SENTENCE.findall(line) if sentence]
    if QUOTE.search(line):
        sentences = [turn for sentence in sentences for turn in NEXT_SPEAKER.split(sentence)]
    return sentences


def join_short(sentences: list[str], min_chars: int, max_chars: int) -> list[str]:
    """Sentences of less than `min_chars` characters joined to the one before, or to the next.

    Unless both together have more than `max_chars`. The concatenation stays the same.
    """
    joined: list[str] = []
    for sentence in sentences:
        short = joined and min(len(joined[-1].strip()), len(sentence.strip())) < min_chars
        if short and len(joined[-1]) + len(sentence) <= max_chars:
            joined[-1] += sentence
        else:
            joined.append(sentence)
    return joined


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
