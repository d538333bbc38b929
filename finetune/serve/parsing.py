"""From the bytes of a body to a request within the limits."""

import json
from collections.abc import Iterable

from pydantic import ValidationError

from finetune.recipes import ServeRecipe
from finetune.serve.schema import PredictRequest


class RequestError(Exception):
    """A request that cannot be answered: an HTTP status and the reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


def parse(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> PredictRequest:
    """RequestError for what is no JSON or has other fields.

    Python's own parser: unlike pydantic's it takes UTF-16 and the half characters that some clients
    send.
    """
    if not is_json(headers):
        raise RequestError(422, "body: its Content-Type must be application/json")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(422, f"body: no JSON: {error}") from None
    if not isinstance(content, dict):
        raise RequestError(422, "body: must be a JSON object")
    try:
        return PredictRequest.model_validate(content)
    except ValidationError as error:
        reasons = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        ]
        raise RequestError(422, "; ".join(reasons)) from None


def is_json(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether Content-Type says so. Pages of other sites cannot send that unasked, as browsers
    first ask for leave."""
    for name, value in headers:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
            return kind == b"application/json" or (
                kind.startswith(b"application/") and kind.endswith(b"+json")
            )
    return False


def check(request: PredictRequest, settings: ServeRecipe) -> None:
    """RequestError for what the limits do not allow."""
    if len(request.texts) > settings.max_texts:
        raise RequestError(
            413, f"{len(request.texts)} texts; at most {settings.max_texts} a request"
        )
    if request.pairs is not None and len(request.pairs) != len(request.texts):
        raise RequestError(400, f"{len(request.texts)} texts but {len(request.pairs)} pairs")
    for number, text in enumerate(request.texts, 1):
        if not text.strip():
            raise RequestError(400, f"text {number} is empty")
    for number, text in enumerate([*request.texts, *(request.pairs or [])], 1):
        if len(text) > settings.max_characters:
            raise RequestError(
                413,
                f"text {number} has {len(text)} characters; at most {settings.max_characters}",
            )
