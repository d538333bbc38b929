"""The peer of benchmarks/data_pipeline.py: jieba and PaddleNLP's BertTokenizer, a line at a time.

    python benchmarks/data_pipeline_peer.py TEXT VOCAB OUTPUT.h5

As PaddleNLP's examples prepare whole-word masking: tokens of the line, words of the line, and the
two aligned. Prints the CPU seconds and the seconds it took, without imports and dictionaries.
"""

import logging
import sys
import time
from pathlib import Path

import h5py
import jieba
import numpy as np
from paddlenlp.transformers import BertTokenizer

MAX_LENGTH = 128


def main(text: Path, vocab_file: Path, output: Path) -> tuple[float, float]:
    """Encode `text` into `output`; (CPU seconds, seconds)."""
    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()
    tokenizer = BertTokenizer(str(vocab_file))
    began, used = time.perf_counter(), time.process_time()
    samples, starts, ids, flags = [], [], [], []
    with text.open(encoding="utf-8") as file:
        for line in file:
            line_ids, line_flags = encoded(line.strip(), tokenizer)
            if ids and (not line_ids or len(ids) + len(line_ids) > MAX_LENGTH - 2):
                samples.append([tokenizer.cls_token_id, *ids, tokenizer.sep_token_id])
                starts.append([1, *flags, 1])
                ids, flags = [], []
            ids += line_ids[: MAX_LENGTH - 2]  # the rest of a long line is lost
            flags += line_flags[: MAX_LENGTH - 2]
    with h5py.File(output, "w") as file:
        file["input_ids"] = np.concatenate([np.array(s, np.uint16) for s in samples])
        file["word_start"] = np.concatenate([np.array(s, np.uint8) for s in starts])
        file["offsets"] = np.cumsum([0, *map(len, samples)])
    return time.process_time() - used, time.perf_counter() - began


def encoded(line: str, tokenizer: BertTokenizer) -> tuple[list[int], list[int]]:
    """(ids, 1 where a word begins) of a line."""
    tokens = tokenizer.tokenize(line)
    begun, place = set(), 0
    for word in jieba.cut(line):
        begun.add(place)
        place += len(word.strip())
    flags, place = [], 0
    for token in tokens:
        flags.append(int(place in begun))
        place += 1 if token == "[UNK]" else len(token.removeprefix("##"))
    return tokenizer.convert_tokens_to_ids(tokens), flags


if __name__ == "__main__":
    print(*main(*map(Path, sys.argv[1:])))
