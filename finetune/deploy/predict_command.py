"""`python -m finetune predict`: lines in, labels out."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from data_pipeline.base.errors import UserError


def predict_texts(arguments) -> int:
    """Classify, or find entities in, the arguments' texts or the lines of a file or of stdin."""
    from finetune.deploy.predict import Predictor

    lines = arguments.texts or _lines(arguments.input)
    if not lines:
        raise UserError("no text: give texts as arguments, a file with --input, or lines on stdin")
    pairs = [line.split("\t", 1)[1] for line in lines] if all("\t" in t for t in lines) else None
    texts = [line.split("\t", 1)[0] for line in lines] if pairs else lines
    predictions = Predictor(arguments.model, arguments.threads).predict(texts, pairs)
    if arguments.json:
        rows = [
            {"text": line} | asdict(prediction)
            for line, prediction in zip(lines, predictions, strict=True)
        ]
        print(json.dumps({"predictions": rows}, ensure_ascii=False))
    else:
        for line, prediction in zip(lines, predictions, strict=True):
            print(f"{prediction}\t{line}")
    return 0


def _lines(path: str | None) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8") if path else sys.stdin.read()
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path or 'stdin'}: not UTF-8 at byte {error.start}") from None
    return [line for line in text.splitlines() if line.strip()]
