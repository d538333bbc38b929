import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.nodes import messages

TEXTS = st.text(max_size=40)


@given(
    st.one_of(
        st.builds(messages.Ended, st.integers(0), st.integers(0, 255), st.integers(-1), TEXTS),
        st.builds(messages.End, st.integers(0, 255), TEXTS),
        st.builds(
            messages.Join, st.integers(-1), TEXTS, TEXTS, st.integers(1), TEXTS,
            st.dictionaries(TEXTS, TEXTS), st.lists(TEXTS), st.integers(-1),
        ),
        st.just(messages.Alive()),
    )
)  # fmt: skip
def test_what_is_encoded_is_decoded(message):
    line = messages.encode(message)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert messages.decode(line) == message


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"[]", b"{}", b'{"type": "End"}', b'{"type": "End", "x": 1}', b"1"]
)
def test_what_is_no_message_is_refused(line):
    with pytest.raises(ValueError, match="not a message"):
        messages.decode(line)
