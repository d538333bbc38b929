"""Progress of long work: a bar on a terminal, plain lines in a log."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Counts work towards `total` and shows rate and time left.

    On a terminal it is a tqdm bar; elsewhere it prints one line at most every `interval` seconds,
    so that a log file stays readable.
    """

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str,
        *,
        start: float = 0,
        interval: float = 10.0,
        quiet: bool = False,
    ):
        self.label, self.total, self.unit, self.interval = label, total, unit, interval
        self.start = self.done = start
        self.note = ""
        self._quiet = quiet
        self._began = self._printed = time.monotonic()
        scaled = unit in ("B", "char")
        self._bar = (
            tqdm(total=total, initial=start, desc=label, unit=unit, unit_scale=scaled)
            if sys.stderr.isatty() and not quiet
            else None
        )

    def add(self, amount: float, **notes) -> None:
        """`amount` more is done; `notes` (loss=..., say) stand next to the count."""
        self.done += amount
        if notes:
            self.note = "  ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in notes.items()
            )
        if self._bar is not None:
            self._bar.update(amount)
            if notes:
                self._bar.set_postfix_str(self.note)
        elif time.monotonic() - self._printed >= self.interval:
            self._print()

    def close(self) -> None:
        """End the bar, or print the last line."""
        if self._bar is not None:
            self._bar.close()
        elif self.done != self.start:
            self._print()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _print(self) -> None:
        self._printed = time.monotonic()
        if self._quiet:
            return
        seconds = max(self._printed - self._began, 1e-9)
        rate = (self.done - self.start) / seconds
        parts = [f"{self.label}: {self.done:,.0f}"]
        if self.total:
            parts.append(f"of {self.total:,.0f}")
        parts.append(f"{self.unit}, {rate:,.1f} {self.unit}/s")
        if self.total and rate > 0:
            parts.append(f", {max(self.total - self.done, 0) / rate:.0f} s left")
        print(
            " ".join(parts).replace(" ,", ",") + (f"  {self.note}" if self.note else ""),
            file=sys.stderr,
            flush=True,
        )
