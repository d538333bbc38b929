"""Two machines on one: network namespaces with own addresses, names, hosts files and hostnames."""

import os
import shutil
import subprocess
from pathlib import Path

HOSTS = Path("/etc/netns")


def why_not() -> str:
    """Why network namespaces cannot be used here; empty when they can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "unshare"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: iproute2, util-linux)"
    name = f"ppm-try-{os.getpid()}"
    made = _ip("netns", "add", name)
    if made.returncode:
        return f"network namespaces are not permitted here: {made.stderr.strip()}"
    entered = _ip("netns", "exec", name, "unshare", "--uts", "hostname", "other-name")
    _ip("netns", "del", name)
    return f"unshare --uts is not permitted: {entered.stderr.strip()}" if entered.returncode else ""


class TwoMachines:
    """`node-a` (10.77.0.1) and `node-b` (10.77.0.2), joined by a cable; a context manager.

    As Debian's installer does it, each resolves its own name to 127.0.1.1.
    """

    NAMES = ("node-a", "node-b")

    def __init__(self) -> None:
        self.spaces = [f"ppm-{os.getpid()}-{name}" for name in self.NAMES]

    def __enter__(self) -> "TwoMachines":
        first, second = (f"ppm{os.getpid() % 10**6}{end}" for end in "ab")
        for space in self.spaces:
            _check("netns", "add", space)
        _check("link", "add", first, "type", "veth", "peer", "name", second)
        for number, (space, device) in enumerate(zip(self.spaces, (first, second), strict=True)):
            _check("link", "set", device, "netns", space)
            inside = ("-n", space)
            _check(*inside, "addr", "add", f"10.77.0.{number + 1}/24", "dev", device)
            _check(*inside, "link", "set", device, "up")
            _check(*inside, "link", "set", "lo", "up")
            folder = HOSTS / space  # `ip netns exec` puts its files in the place of /etc/*
            folder.mkdir(parents=True)
            other = 1 - number
            (folder / "hosts").write_text(
                f"127.0.0.1 localhost\n127.0.1.1 {self.NAMES[number]}\n"
                f"10.77.0.{other + 1} {self.NAMES[other]}\n"
            )
        return self

    def __exit__(self, *_) -> None:
        for space in self.spaces:
            _ip("netns", "del", space)
            shutil.rmtree(HOSTS / space, ignore_errors=True)

    def start(self, number: int, command: list[str], log: Path, **variables) -> subprocess.Popen:
        """Start a command on a machine; what it prints is appended to `log`."""
        shell = f'hostname {self.NAMES[number]} && exec "$@"'
        words = ["ip", "netns", "exec", self.spaces[number], "unshare", "--uts"]
        return subprocess.Popen(
            [*words, "sh", "-c", shell, "sh", *command],
            env=os.environ | variables,
            stdout=log.open("a"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _ip(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


def _check(*words: str) -> None:
    result = _ip(*words)
    assert result.returncode == 0, f"ip {' '.join(words)}: {result.stderr}"
