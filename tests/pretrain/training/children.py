"""Work in a forked child that may be killed in the middle."""

import os
import signal
import sys


def in_a_child(work) -> int:
    """Run `work` in a forked child; its wait status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


FILE_SYSTEM = ("open", "os.", "shutil.")


def killed_at(operation, work) -> bool:
    """Run `work` in a child that kills itself with SIGKILL just before its file-system operation
    of this number; False when it has fewer."""

    def child():
        seen = 0

        def hook(event, _):
            nonlocal seen
            if event.startswith(FILE_SYSTEM):
                seen += 1
                if seen == operation:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()

    status = in_a_child(child)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)
