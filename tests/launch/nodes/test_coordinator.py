"""The nodes' decisions, with a clock that the test sets."""

from launch.nodes.coordinator import Coordinator, Limits, Phase, differences
from launch.nodes.messages import End, Ended, Halt, Join, Start
from launch.restarts import Restarts


def join(node=-1, **changes):
    values = {
        "node": node,
        "host": f"host-{node}",
        "address": "",
        "nproc_per_node": 8,
        "recipe_sha256": "a",
        "versions": {"paddlepaddle": "3.3.1"},
        **changes,
    }
    return Join(**values)


def coordinator(nnodes=2, limit=3):
    return Coordinator(nnodes, Limits(100, 60), Restarts(limit, first_pause=5))


def started(nnodes=2, limit=3):
    state = coordinator(nnodes, limit)
    for node in range(nnodes):
        sent = state.join(node, join(node), now=node)
    assert sent == {node: Start(1, node) for node in range(nnodes)}
    return state


def test_nodes_start_when_the_last_has_joined():
    state = coordinator(3)
    assert state.join(2, join(2), now=0) == {}
    assert state.join(0, join(0), now=1) == {}
    assert state.missing() == [1]
    assert state.join(1, join(1), now=99) == {node: Start(1, node) for node in range(3)}


def test_waiting_for_nodes_is_bounded_and_names_the_missing():
    state = coordinator(3)
    state.join(0, join(0), now=0)
    assert state.tick(99.9) == {}
    assert state.tick(100) == {0: End(69, "node(s) 1, 2 did not come in time")}


def test_a_node_takes_its_own_number_or_the_lowest_free_one():
    state = coordinator(2)
    assert state.free_number(join(-1)) == 0
    state.join(0, join(0), now=0)
    assert state.free_number(join(-1)) == 1
    assert state.free_number(join(0)) is None
    assert state.free_number(join(2)) is None


def test_all_end_when_all_have_finished():
    state = started()
    assert state.launcher_ended(1, Ended(1, 0, 5), now=10) == {}
    assert state.launcher_ended(0, Ended(1, 0, 5), now=11) == {0: End(0, ""), 1: End(0, "")}


def test_a_users_error_on_one_node_ends_all_with_its_code_and_its_sentence():
    state = started()
    text = "output_dir: no space left on device"
    assert state.launcher_ended(1, Ended(1, 2, 3, text), now=10) == {0: Halt(1, f"node 1: {text}")}
    end = End(2, f"node 1: {text}")
    assert state.launcher_ended(0, Ended(1, 247, 3), now=20) == {0: end, 1: end}
    assert state.restarts.in_a_row == 0


def test_the_node_that_knows_the_reason_may_report_it_after_the_others():
    state = started()
    state.launcher_ended(1, Ended(1, 2, 3, "rank 0 has failed"), now=10)
    sent = state.launcher_ended(0, Ended(1, 2, 3, "the disk is full"), now=11)
    assert sent[1] == End(2, "node 0: the disk is full\nnode 1: rank 0 has failed")


def test_a_stop_that_is_saved_ends_all_nodes_with_75():
    state = started()
    state.launcher_ended(0, Ended(1, 75, 3), now=10)
    sent = state.launcher_ended(1, Ended(1, 75, 3), now=11)
    assert {end.code for end in sent.values()} == {75}


def test_a_crash_starts_all_nodes_again_after_a_pause():
    state = started()
    assert state.launcher_ended(1, Ended(1, 247, 3), now=10).keys() == {0}
    assert state.launcher_ended(0, Ended(1, 1, 3), now=12) == {}
    assert state.phase is Phase.PAUSE
    assert state.tick(16.9) == {}
    assert state.tick(17) == {0: Start(2, 0), 1: Start(2, 1)}
    # A report of the first start that comes late changes nothing.
    assert state.launcher_ended(1, Ended(1, 247, 3), now=18) == {}
    assert state.phase is Phase.TRAIN


def test_crashes_without_progress_end_the_run_with_the_code_of_the_first():
    state = started(limit=1)
    now = 10.0
    for attempt in (1, 2):
        state.launcher_ended(1, Ended(attempt, 250, 3 if attempt == 1 else 2), now)
        sent = state.launcher_ended(0, Ended(attempt, 247, 3), now + 1)
        state.newest_step = 3
        now += 100
        sent = sent or state.tick(now)
    assert {end.code for end in sent.values()} == {250}
    assert "1 restarts brought no new checkpoint" in sent[0].reason


def test_a_lost_node_comes_back_in_time_and_the_run_continues():
    state = started()
    assert state.lose(1, now=10) == {0: Halt(1, "node 1 was lost")}
    assert state.launcher_ended(0, Ended(1, 247, 3), now=20) == {}
    assert state.phase is Phase.GATHER and state.missing() == [1]
    assert state.tick(79) == {}
    assert state.join(1, join(1), now=79.5) == {0: Start(2, 0), 1: Start(2, 1)}


def test_a_lost_node_that_stays_away_ends_the_run():
    state = started()
    state.lose(1, now=10)
    state.launcher_ended(0, Ended(1, 247, 3), now=20)
    assert state.tick(80) == {0: End(69, "node(s) 1 did not come in time")}
    assert state.join(1, join(1), now=81) == {1: End(69, "node(s) 1 did not come in time")}


def test_a_node_lost_in_a_pause_is_waited_for():
    state = started()
    state.launcher_ended(1, Ended(1, 1, 3), now=10)
    state.launcher_ended(0, Ended(1, 1, 3), now=10)
    assert state.lose(0, now=11) == {}
    assert state.tick(50) == {}
    assert state.join(0, join(0), now=60) == {0: Start(2, 0), 1: Start(2, 1)}


def test_what_nodes_find_wrong_ends_all_before_a_rank_is_started():
    state = coordinator(3)
    state.join(0, join(0), now=0)
    state.join(1, join(1, problems=["nproc_per_node: 8 ranks but 4 visible GPU(s)"]), now=0)
    sent = state.join(2, join(2, recipe_sha256="b"), now=1)
    assert {end.code for end in sent.values()} == {2}
    assert "node 1 (host-1): nproc_per_node: 8 ranks but 4 visible GPU(s)" in sent[0].reason
    assert "node 2 (host-2): was started with another recipe" in sent[0].reason


def test_nodes_with_other_versions_are_named():
    old = join(1, versions={"paddlepaddle": "3.2.0", "numpy": "1.26.4"})
    texts = differences(join(0), old)
    assert any("has paddlepaddle 3.2.0, node 0 has 3.3.1" in text for text in texts)
    assert any("has numpy 1.26.4, node 0 has missing" in text for text in texts)
    assert differences(join(0), join(1)) == []
    assert "--nproc_per_node 4" in differences(join(0), join(1, nproc_per_node=4))[0]


def test_a_node_that_is_back_while_the_others_still_stop_is_not_waited_for():
    state = started(3)
    state.lose(1, now=10)
    assert state.join(1, join(1), now=11) == {}
    assert state.launcher_ended(0, Ended(1, 247, 3), now=12) == {}
    assert state.launcher_ended(2, Ended(1, 247, 3), now=13) == {}
    assert state.tick(18) == {node: Start(2, node) for node in range(3)}
