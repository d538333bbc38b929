"""What is needed next, made by a thread while the caller works on what it has."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
DEPTH = 2
END = object()


def ahead(
    items: Iterable[T], begin: Callable[[], object] = lambda: None
) -> Generator[T, None, None]:
    """The items, in their order; up to DEPTH of them are made before they are asked for.

    begin: what the thread does first. An error of the maker is raised where its item would have
    come. Close the generator when it is not used to its end, also after an error: the thread has
    then ended.
    """
    made = iter(items)
    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead", initializer=begin)
    try:
        waiting = deque(pool.submit(next, made, END) for _ in range(DEPTH))
        while (item := waiting.popleft().result()) is not END:
            waiting.append(pool.submit(next, made, END))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
