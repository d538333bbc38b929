"""What nodes and server send each other: dataclasses, one JSON object per line."""

import json
from dataclasses import asdict, dataclass, field
from typing import get_args

LONGEST_LINE = 1 << 16  # bytes; anything longer does not come from a node of this run


@dataclass(frozen=True)
class Join:
    """A node is there."""

    node: int
    """Its number; -1 asks for a free one."""
    host: str
    """Its name, for messages."""
    address: str
    """Under which the other nodes reach it; empty lets the connection decide."""
    nproc_per_node: int
    recipe_sha256: str
    versions: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """What is wrong by its own checks."""
    newest_step: int = -1
    """Of the newest complete checkpoint that it sees."""


@dataclass(frozen=True)
class Ended:
    """A node's launcher has ended."""

    attempt: int
    code: int
    newest_step: int
    reason: str = ""


@dataclass(frozen=True)
class Alive:
    """Nothing new; sent in both directions so that a lost peer is noticed."""


@dataclass(frozen=True)
class Start:
    """Start the launcher."""

    attempt: int
    node: int
    master: str = ""
    """`address:port` at which Paddle's launchers meet."""
    address: str = ""
    """This node's own address, for Paddle."""


@dataclass(frozen=True)
class Halt:
    """Stop the launcher, and wait."""

    attempt: int
    reason: str


@dataclass(frozen=True)
class End:
    """End with this exit code."""

    code: int
    reason: str


@dataclass(frozen=True)
class Refused:
    """This node cannot take part."""

    reason: str
    may_retry: bool = False
    """Whether that may change: the node that has its number may be lost, and not yet missed."""


Message = Join | Ended | Alive | Start | Halt | End | Refused
TYPES = {kind.__name__: kind for kind in get_args(Message)}


def encode(message: Message) -> bytes:
    """One line."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message in a line.

    Raises:
        ValueError: it is none.
    """
    try:
        values = json.loads(line)
        return TYPES[values.pop("type")](**values)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"not a message of this version: {line[:80]!r}: {error}") from None
