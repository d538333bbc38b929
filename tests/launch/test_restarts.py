from launch.restarts import LONGEST_PAUSE, Restarts


def test_pauses_double_without_progress_and_start_anew_with_it():
    restarts = Restarts(limit=4, first_pause=5)
    pauses = [restarts.after_failure(p) for p in (False, False, False, True, False, False, False)]
    assert pauses == [5, 10, 20, 5, 10, 20, 40]
    assert restarts.after_failure(False) is None


def test_no_pause_is_longer_than_the_longest():
    restarts = Restarts(limit=100)
    assert max(restarts.after_failure(False) for _ in range(100)) == LONGEST_PAUSE
