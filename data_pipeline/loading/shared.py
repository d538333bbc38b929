"""Arrays that one process of a machine makes, and the others map.

The ranks of a node would otherwise each read and decompress the whole corpus. One of them, the
reader, puts arrays into a memory file and sends its descriptor over a Unix socket. Neither has a
name on the disk: /dev/shm and its size (64 MB in many containers) play no part, and the kernel
frees both when the last process ends, also by SIGKILL. Linux only.
"""

import contextlib
import json
import mmap
import os
import socket
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np

from data_pipeline.base.errors import UserError

Arrays = dict[str, np.ndarray]
Make = Callable[..., Arrays]
"""The arrays of a key, a few integers; the same for equal keys in every process."""
KEPT = 4  # newest keys whose arrays the reader holds, for processes that come later
MESSAGE_BYTES = 1 << 16
ALIGNMENT = 64
LOST = 1  # exit code: not a user's mistake, so a supervisor starts the ranks again


@dataclass(frozen=True)
class Node:
    """This process among those of its machine that share what one of them reads."""

    address: str
    """Name of the reader's socket in Linux's abstract namespace; secret and unique."""
    is_reader: bool


class Source(Protocol):
    """Where arrays come from."""

    def __call__(self, *key: int) -> Arrays:
        """The arrays of a key; not to be written to."""

    def close(self) -> None:
        """Nothing more will be asked for."""


def open_source(make: Make, node: Node | None) -> Source:
    """The arrays that `make` gives, made once per machine where a `node` is given. Where this
    machine cannot share them, each process makes its own, which is printed."""
    if node is None:
        return OwnArrays(make)
    if not node.is_reader:
        return MappedArrays(make, node.address)
    try:
        return SharedArrays(make, node.address)
    except OSError as error:
        _print_alone(error)
        return OwnArrays(make)


class OwnArrays:
    """Made by this process, for itself."""

    def __init__(self, make: Make):
        self._make = make

    def __call__(self, *key: int) -> Arrays:
        """The arrays of a key."""
        return self._make(*key)

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True)
class _Made:
    arrays: Arrays
    header: bytes
    """What is sent to the other processes."""
    file: IO | None
    """The memory file; None where there is none."""


class SharedArrays:
    """The reader's: made once for all processes, asked for by this one or over the socket."""

    def __init__(self, make: Make, address: str):
        """Listen at `address`; OSError where that is impossible."""
        self._make, self._lock = make, threading.Lock()
        self._made: OrderedDict[tuple[int, ...], Future] = OrderedDict()
        self._connections: list[socket.socket] = []
        self._alone = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(f"\0{address}")
        self._socket.listen()
        threading.Thread(target=self._accept, name="shared-arrays", daemon=True).start()

    def __call__(self, *key: int) -> Arrays:
        """The arrays of a key."""
        return self._get(key).arrays

    def close(self) -> None:
        """Disconnect the others; what they have mapped stays valid."""
        with self._lock:
            for open_socket in (self._socket, *self._connections):
                with contextlib.suppress(OSError):  # closed already
                    open_socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in it
                open_socket.close()
            self._made.clear()

    def _get(self, key: tuple[int, ...]) -> _Made:
        with self._lock:
            is_new = key not in self._made
            future = self._made.setdefault(key, Future())
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        if is_new:
            try:
                future.set_result(self._store(self._make(*key)))
            except BaseException as error:  # for whoever waits for it; an error stays one
                future.set_exception(error)
        return future.result()

    def _store(self, arrays: Arrays) -> _Made:
        try:
            return _in_memory_file(arrays)
        except OSError as error:
            if not self._alone:
                _print_alone(error)
            self._alone = True
            return _Made(arrays, json.dumps({"alone": True}).encode(), None)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            if not _is_same_user(connection):
                connection.close()
                continue
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:  # the other process has ended
            while request := connection.recv(MESSAGE_BYTES):
                made = self._answer(tuple(json.loads(request)))
                descriptors = [made.file.fileno()] if made.file else []
                socket.send_fds(connection, [made.header], descriptors)

    def _answer(self, key: tuple[int, ...]) -> _Made:
        try:
            return self._get(key)
        except UserError as error:
            answer = {"error": str(error), "exit_code": error.exit_code}
        except Exception as error:  # a fault; the reader raises it, too
            answer = {"error": f"the rank that reads for this node: {error!r}", "exit_code": LOST}
        return _Made({}, json.dumps(answer).encode(), None)


class MappedArrays:
    """The other processes': asked for from the reader, with which they connect at the first key."""

    def __init__(self, make: Make, address: str):
        self._make, self._address, self._lock = make, address, threading.Lock()
        self._socket: socket.socket | None = None
        self._alone = False

    def __call__(self, *key: int) -> Arrays:
        """The arrays of a key.

        Raises:
            UserError: the reader's own, or the reader has ended.
        """
        with self._lock:
            if self._socket is None and not self._alone:
                self._connect()
            answer, descriptors = _ask(self._socket, key) if self._socket else ({"alone": True}, [])
        if "error" in answer:
            raise UserError(answer["error"], answer["exit_code"])
        if "alone" in answer:
            return self._make(*key)
        with os.fdopen(descriptors[0], "rb") as file:
            return _mapped(file, answer)

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            if self._socket:
                self._socket.close()

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(f"\0{self._address}")
        except OSError as error:
            connection.close()
            self._alone = True
            _print_alone(error)
        else:
            self._socket = connection


def _ask(reader: socket.socket, key: tuple[int, ...]) -> tuple[dict, list[int]]:
    header = b""
    descriptors: list[int] = []
    with contextlib.suppress(OSError):
        reader.send(json.dumps(key).encode())
        header, descriptors, _, _ = socket.recv_fds(reader, MESSAGE_BYTES, 1)
    if not header:
        raise UserError(
            "the rank that reads the shards for this node has ended; so does this one",
            exit_code=LOST,
        )
    return json.loads(header), descriptors


def _in_memory_file(arrays: Arrays) -> _Made:
    """The arrays one after another in a memory file; OSError when there is no room for them."""
    layout, size = {}, 0
    for name, array in arrays.items():
        layout[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": size}
        size += -(-max(1, array.nbytes) // ALIGNMENT) * ALIGNMENT
    file = os.fdopen(os.memfd_create("shared-arrays"), "r+b")
    os.posix_fallocate(file.fileno(), 0, size)  # without room, writing would end the process
    with mmap.mmap(file.fileno(), size) as memory:
        for name, array in arrays.items():
            start = layout[name]["offset"]
            memory[start : start + array.nbytes] = array.tobytes()
    return _Made(_mapped(file, layout), json.dumps(layout).encode(), file)


def _mapped(file: IO, layout: dict) -> Arrays:
    """The arrays in a memory file, read-only; mapped as long as one of them is in use."""
    memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {
        name: np.frombuffer(
            memory, place["dtype"], int(np.prod(place["shape"])), place["offset"]
        ).reshape(place["shape"])
        for name, place in layout.items()
    }


def _is_same_user(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    return struct.unpack("3i", credentials)[1] == os.getuid()


def _print_alone(error: OSError) -> None:
    print(
        f"this machine cannot share samples between processes ({error}); each reads the shards "
        "by itself",
        flush=True,
    )
