"""When a run that lost ranks is started again, and after how long a pause."""

from dataclasses import dataclass

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds


@dataclass
class Restarts:
    """Counts restarts in a row that brought no newer checkpoint.

    A run on nodes that fail now and then continues for as long as it makes progress; one that fails
    at the same place again waits twice as long each time, and then ends.
    """

    limit: int
    first_pause: float = FIRST_PAUSE
    in_a_row: int = 0

    def after_failure(self, progress: bool) -> float | None:
        """Seconds until the next start; None when there is to be none.

        progress: whether the failed start saved a checkpoint.
        """
        self.in_a_row = 1 if progress else self.in_a_row + 1
        if self.in_a_row > self.limit:
            return None
        return min(LONGEST_PAUSE, self.first_pause * 2 ** (self.in_a_row - 1))
