from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.building import piece_file, spill

sentence = st.text(
    st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(str.strip)


@given(st.lists(st.lists(sentence, max_size=4), max_size=10))
@settings(deadline=None)
def test_documents_come_back(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("spill") / "0.piece"
    with piece_file.writer(path) as made:
        with made.section("text") as file, spill.writer(file) as write:
            for _, block in spill.blocks(enumerate(documents)):
                write(block)
        with made.section("near") as file:
            file.write(b"what follows")
    found = [document for block in spill.read(path) for document in block]
    assert found == [document for document in documents if document]


def test_blocks_are_bounded(tmp_path):
    documents = [["字" * 1000] * 20 for _ in range(100)]
    blocks = [block for _, block in spill.blocks(enumerate(documents))]
    assert sum(map(len, blocks)) == 100
    assert all(len(block) * 20_000 < spill.BLOCK + 20_000 for block in blocks)
    with (
        piece_file.writer(tmp_path / "a") as made,
        made.section("text") as file,
        spill.writer(file) as write,
    ):
        for block in blocks:
            write(block)
    read = list(spill.read(tmp_path / "a"))
    assert [d for block in read for d in block] == documents and len(read) > 5
