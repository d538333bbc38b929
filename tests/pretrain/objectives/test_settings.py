"""Settings of the objectives."""

import pytest

from pretrain.objectives.settings import Relations


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "1 between samples, in 64 heads of Q, K and V"),
        ({"beta": 0, "heads": 16}, "1 between tokens, in 16 heads of Q, K and V"),
        (
            {"alpha": 0.25, "beta": 0.5, "hidden": 2},
            "0.25 between tokens + 0.25 between heads + 0.5 between samples, in 64 heads of "
            "Q, K, V and 2 of H",
        ),
        (
            {"beta": 1, "extra": {"mine:loss": 0.5}},
            "1 between samples + 0.5 mine:loss, in 64 heads of Q, K and V",
        ),
    ],
)
def test_relations_are_told_in_words(values, words):
    """alpha and beta alone do not tell a reader what is learned."""
    assert Relations(**values).described() == words
