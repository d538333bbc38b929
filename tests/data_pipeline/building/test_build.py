import json
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.building import plan, steps
from data_pipeline.building.build import build
from data_pipeline.shards import format as shards
from data_pipeline.shards.format import Manifest, ShardReader
from data_pipeline.shards.provenance import INPUTS, read_inputs
from data_pipeline.shards.verify import verify
from data_pipeline.text import vocab
from data_pipeline.text.clean import clean
from data_pipeline.text.encode import WordPieceEncoder
from data_pipeline.text.settings import Clean

RECORDED = (4, "8b835936fb5e")  # BUILD_VERSION, and the fingerprint of a small build


def texts_of(folder) -> list[list[int]]:
    """Ids of all samples without [CLS] and [SEP]."""
    reader = ShardReader(folder)
    ids, _ = reader.read(range(reader.manifest.samples))
    return [i[1:-1].tolist() for i in ids]


def test_nothing_is_dropped_or_changed_on_the_way(corpus, recipe, vocab_file):
    """Samples put together are the ids of the cleaned text, character for character."""
    made = recipe(sources=[{"path": str(corpus)}], dedup={"exact": False}, max_length=32)
    manifest = build(made, quiet=True)
    files = sorted(corpus.rglob("*.txt"))
    texts = [path.read_text(encoding="utf-8").split("\n\n") for path in files]
    kept = [s for docs in texts for doc in docs for s in clean(doc, Clean(), Counter())]
    expected = np.concatenate(WordPieceEncoder(vocab_file).ids(kept)).tolist()
    assert [i for ids in texts_of(made.output_dir) for i in ids] == expected
    assert manifest.counters["sentences_out"] == len(kept)
    assert verify(made.output_dir, quiet=True) == []
    assert not (made.output_dir / plan.FOLDER).exists()


def test_counters_account_for_every_line_and_sentence(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}, {"path": str(corpus)}], dedup={"near": True})
    c = build(made, quiet=True).counters
    assert c["sentences_in"] == sum(
        c[f"sentences_{name}"]
        for name in (
            "out",
            "too_short",
            "not_chinese",
            "in_not_chinese_documents",
            "exact_duplicate",
            "in_near_duplicates",
        )
    )
    assert c["documents_in"] >= 600
    assert c["documents_near_duplicate"] >= c["documents_in"] / 2 - 20


@pytest.mark.parametrize(
    "dedup", [{"exact_min_chars": 0}, {"exact": False, "near": True}], ids=["exact", "near"]
)
def test_a_corpus_given_twice_is_the_corpus_given_once(corpus, recipe, tmp_path, dedup):
    once, twice = (
        build(
            recipe(
                sources=[{"path": str(corpus)}] * times,
                output_dir=str(tmp_path / f"{times}"),
                dedup=dedup,
            ),
            quiet=True,
        )
        for times in (1, 2)
    )
    assert (once.samples, once.tokens) == (twice.samples, twice.tokens)


@pytest.mark.parametrize("piece_mb", [10, 0.05])
def test_text_on_other_storage_gives_the_shards_of_local_text(corpus, recipe, tmp_path, piece_mb):
    """Also where the files are larger than a piece, and are unpacked first."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in corpus.rglob("*.txt"):
        memory.pipe(f"/builds/{path.relative_to(corpus)}", path.read_bytes())
    sections = {"dedup": {"near": True}, "pack": "sentence", "piece_mb": piece_mb}
    local = build(recipe(sources=[{"path": str(corpus)}], **sections), quiet=True)
    made = recipe(
        sources=[{"path": "memory://builds"}], output_dir=str(tmp_path / "remote"), **sections
    )
    remote = build(made, quiet=True)
    assert (remote.samples, remote.tokens) == (local.samples, local.tokens)
    assert remote.fingerprint == local.fingerprint or piece_mb < 1
    assert verify(made.output_dir, quiet=True) == []


def test_short_sentences_stay_however_often_they_occur(tmp_path, recipe):
    """谢谢大家。 belongs to many documents; a longer sentence is dropped where it is repeated."""
    long = "这是一句常常重复的很长的话。"
    documents = [f"第{i}篇有它自己的第一句话。\n谢谢大家。\n{long}" for i in range(9)]
    (tmp_path / "a.txt").write_text("\n\n".join(documents), encoding="utf-8")
    train = {"train": {"size": 200, "min_count": 1}}
    counters = build(
        recipe(sources=[{"path": str(tmp_path / "a.txt")}], vocab=train), quiet=True
    ).counters
    assert counters["sentences_in"] == 27
    assert counters["sentences_exact_duplicate"] == 8


@pytest.mark.parametrize("pack", ["sentence", "document", "corpus"])
def test_packing_modes_hold_the_same_text(corpus, recipe, tmp_path, pack):
    made = recipe(sources=[{"path": str(corpus)}], pack=pack, max_length=64)
    manifest = build(made, quiet=True)
    texts = texts_of(made.output_dir)
    assert max(map(len, texts)) <= 62
    assert manifest.tokens == sum(map(len, texts)) + 2 * len(texts)
    mean = {"sentence": (15, 45), "document": (30, 55), "corpus": (45, 62)}[pack]
    assert mean[0] < np.mean([len(text) for text in texts]) < mean[1]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_same_bytes(corpus, recipe, tmp_path, workers):
    def made(name, **run):
        sections = {"vocab": {"train": {"size": 3000}}, "dedup": {"near": True}}
        made = recipe(
            sources=[{"path": str(corpus)}], output_dir=str(tmp_path / name), run=run, **sections
        )
        return build(made, quiet=True), {
            p.name: p.read_bytes() for p in (tmp_path / name).glob("s*")
        }

    expected, files = made("reference", workers=1, memory_mb=1024)
    found, other = made("other", workers=workers, memory_mb=1)
    assert found.fingerprint == expected.fingerprint
    assert found.counters == expected.counters
    assert files == other and len(files) > 3


def test_a_finished_build_is_found_and_not_done_again(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}])
    first = build(made, quiet=True)
    times = {p: p.stat().st_mtime_ns for p in made.output_dir.glob("shard*")}
    assert build(made, quiet=True) == first
    assert times == {p: p.stat().st_mtime_ns for p in made.output_dir.glob("shard*")}
    other_run = recipe(sources=[{"path": str(corpus)}], run={"workers": 2, "memory_mb": 7})
    assert build(other_run, quiet=True) == first


@pytest.mark.parametrize("begun", [True, False])
def test_a_changed_recipe_is_refused_by_the_name_of_its_field(corpus, recipe, begun, monkeypatch):
    made = recipe(sources=[{"path": str(corpus)}])
    if begun:
        monkeypatch.setattr("data_pipeline.building.vocabulary.make", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(made, quiet=True)
        monkeypatch.undo()
    else:
        build(made, quiet=True)
    changed = recipe(
        sources=[{"path": str(corpus)}], clean={"min_chars": 9}, max_length=64, pack="sentence"
    )
    with pytest.raises(UserError) as caught:
        build(changed, quiet=True)
    message = str(caught.value)
    assert "clean.min_chars: was 4, is now 9" in message
    assert "max_length: was 128, is now 64" in message
    assert "pack: was 'document', is now 'sentence'" in message
    assert ("unfinished build" in message) == begun


def test_changed_input_is_refused_by_the_name_of_the_file(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}])
    build(made, quiet=True)
    (corpus / "0" / "part-0.txt").write_text("另一个文件。\n", encoding="utf-8")
    (corpus / "1" / "new.txt").write_text("新的文件。\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"(?s)part-0\.txt: was.*new\.txt: was None"):
        build(made, quiet=True)


def test_a_changed_vocabulary_file_is_refused(corpus, recipe, vocab_file, tmp_path):
    path = tmp_path / "vocab.txt"
    shutil.copy(vocab_file, path)
    made = recipe(sources=[{"path": str(corpus)}], vocab={"file": str(path)})
    build(made, quiet=True)
    vocab.write(path, [*vocab.read(vocab_file), "新的"])
    with pytest.raises(UserError, match=r"vocab\.sha256: was '"):
        build(made, quiet=True)


def test_a_library_that_changed_in_the_middle_is_refused(corpus, recipe, monkeypatch):
    made = recipe(sources=[{"path": str(corpus)}])
    monkeypatch.setattr("data_pipeline.building.vocabulary.make", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(made, quiet=True)
    monkeypatch.undo()
    changed = {**plan.versions(), "jieba": "9.9"}
    monkeypatch.setattr("data_pipeline.building.build.versions", lambda: changed)
    with pytest.raises(UserError, match=r"versions\.jieba: was '0\.\d+\.\d+', is now '9\.9'"):
        build(made, quiet=True)


def test_an_edited_source_file_does_not_stop_a_build_but_another_build_version_does(
    corpus, recipe, monkeypatch
):
    made = recipe(sources=[{"path": str(corpus)}])
    monkeypatch.setattr("data_pipeline.building.vocabulary.make", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(made, quiet=True)
    monkeypatch.undo()
    monkeypatch.setattr(plan, "BUILD_VERSION", plan.BUILD_VERSION + 1)
    with pytest.raises(UserError, match=rf"versions\.build: was '{plan.BUILD_VERSION - 1}'"):
        build(made, quiet=True)
    monkeypatch.undo()
    monkeypatch.setattr(plan, "code_digest", lambda: "a comment was added")
    assert build(made, quiet=True).versions["data_pipeline"] == "a comment was added"


def test_finished_shards_of_before_a_field_existed_are_of_the_same_recipe(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}], dedup={"near": True})
    build(made, quiet=True)
    path = made.output_dir / shards.MANIFEST
    values = json.loads(path.read_text())
    for name in ("weight", "repeat", "sample", "limit_mb"):
        del values["settings"]["sources"][0][name]
    del values["settings"]["holdout"]
    path.write_text(json.dumps(values))
    build(made, quiet=True)
    changed = recipe(sources=[{"path": str(corpus), "repeat": 2}], dedup={"near": True})
    with pytest.raises(UserError, match="another recipe"):
        build(changed, quiet=True)


def test_what_a_recipe_makes_of_text_is_recorded(corpus, recipe):
    """A change here changes everyone's shards: raise BUILD_VERSION and record both anew."""
    manifest = build(
        recipe(
            sources=[{"path": str(corpus), "sample": 0.5}, {"path": str(corpus), "repeat": 1.5}],
            dedup={"near": True},
            clean={"simplify": True, "urls": True, "personal_data": True},
            holdout={"share": 0.1},
        ),
        quiet=True,
    )
    assert (plan.BUILD_VERSION, manifest.fingerprint[:12]) == RECORDED


def _interrupt(*_):
    raise KeyboardInterrupt


def test_an_interrupted_build_goes_on(corpus, recipe, tmp_path, monkeypatch):
    sections = {"sources": [{"path": str(corpus)}], "piece_mb": 0.1}
    expected = build(recipe(output_dir=str(tmp_path / "a"), **sections), quiet=True)
    made = recipe(**sections)
    for _ in range(3):  # interrupted after every second shard
        count = []

        def stop(*arguments, sync_folder, count=count, write=shards.write_shard):
            count.append(1)
            if len(count) > 2:
                raise KeyboardInterrupt
            return write(*arguments, sync_folder=sync_folder)

        monkeypatch.setattr(shards, "write_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            build(made, quiet=True)
        monkeypatch.undo()
        assert not (made.output_dir / shards.MANIFEST).exists()
    made_shards = made.output_dir.glob(".build/*/write/shard*")
    times = {p.name: p.stat().st_mtime_ns for p in made_shards}
    assert len(times) == 6
    assert build(made, quiet=True).fingerprint == expected.fingerprint
    assert all((made.output_dir / name).stat().st_mtime_ns == at for name, at in times.items())


def test_left_over_temporary_files_are_swept(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}])
    made.output_dir.mkdir()
    (made.output_dir / ".shard-00000.h5.123.tmp").write_bytes(b"half")
    build(made, quiet=True)
    assert not list(made.output_dir.glob("*.tmp")) and not list(made.output_dir.glob(".s*"))


def test_too_many_unknown_characters_are_an_error(corpus, recipe, tmp_path):
    path = tmp_path / "small.txt"
    vocab.write(path, [*vocab.SPECIAL.values(), "的", "，", "。"])
    made = recipe(sources=[{"path": str(corpus)}], vocab={"file": str(path)})
    with pytest.raises(UserError, match=r"\d\d\.\d\d% of the tokens are \[UNK\].*Most often: '"):
        build(made, quiet=True)
    assert not (made.output_dir / shards.MANIFEST).exists()
    made = recipe(
        sources=[{"path": str(corpus)}],
        vocab={"file": str(path), "max_unk_share": 1.0},
        output_dir=str(tmp_path / "allowed"),
    )
    manifest = build(made, quiet=True)
    unknown = sum(text.count(1) for text in texts_of(made.output_dir))
    assert manifest.unk_share == pytest.approx(unknown / (manifest.tokens - 2 * manifest.samples))


def test_a_vocabulary_is_trained_on_the_cleaned_text(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}], vocab={"train": {"size": 4000, "min_count": 1}})
    manifest = build(made, quiet=True)
    tokens = vocab.read(made.output_dir / shards.VOCABULARY)
    assert len(tokens) == manifest.vocab_size == 4000
    assert vocab.sha256(tokens) == manifest.vocab_sha256
    assert manifest.unk_share < 0.003


def test_nothing_left_says_why(tmp_path, recipe):
    (tmp_path / "a.txt").write_text("。。。！！！\nenglish only\n\n好\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"3 lines.*too_short 1.*not_chinese 1"):
        build(recipe(sources=[{"path": str(tmp_path / "a.txt")}]), quiet=True)


def test_a_piece_with_nothing_left_has_no_shard(tmp_path, recipe):
    for name, text in (("a", "一句很好的话。\n"), ("b", "only english\n"), ("c", "又是一句话。\n")):
        (tmp_path / f"{name}.txt").write_text(text * 1000, encoding="utf-8")
    made = recipe(
        sources=[{"path": f"{tmp_path}/*.txt"}], piece_mb=0.01, dedup={"exact_min_chars": 0}
    )
    manifest = build(made, quiet=True)
    assert manifest.samples == 2 and verify(made.output_dir, quiet=True) == []


def test_two_builds_into_one_directory_are_refused(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}])
    holder = (
        "import fcntl, sys; f = open(sys.argv[1] + '/.lock', 'a+'); f.write('process 1 on a');"
        "f.flush(); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    made.output_dir.mkdir()
    command = [sys.executable, "-c", holder, str(made.output_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match="is being built by process 1 on a"):
            build(made, quiet=True)
        other.stdin.close()
        other.wait()
    assert build(made, quiet=True).samples > 0


def test_manifest_tells_all_that_decides_the_content(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}])
    build(made, quiet=True)
    values = json.loads((made.output_dir / "manifest.json").read_text())
    assert values["settings"]["words"] == {"segmenter": "rjieba", "hmm": True}
    assert values["settings"]["clean"]["min_chars"] == 4
    assert values["settings"]["inputs"]["count"] == 6
    assert len(read_inputs(made.output_dir / INPUTS)) == 6
    assert values["versions"]["rjieba"] and "unk_share" in values
    assert "run" not in values["settings"] and "output_dir" not in values["settings"]
    assert sum(values["length_histogram"]) == values["samples"]
    assert Manifest.read(made.output_dir).fingerprint


def test_tasks_can_run_in_another_directory(corpus, recipe, tmp_path, monkeypatch):
    """Paths in a recipe may be relative; workers of a cluster need not share the directory."""
    monkeypatch.chdir(tmp_path)
    made = recipe(sources=[{"path": "corpus"}], output_dir="relative/shards")
    expected = build(recipe(sources=[{"path": "corpus"}], output_dir="other"), quiet=True)
    original = steps.execute

    def elsewhere(*arguments):
        with monkeypatch.context() as there:
            there.chdir("/")
            return original(*arguments)

    monkeypatch.setattr(steps, "execute", elsewhere)
    assert build(made, quiet=True).fingerprint == expected.fingerprint
    assert verify(tmp_path / "relative/shards", quiet=True) == []


def test_a_long_lived_worker_does_not_go_by_an_old_plan(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}])
    first = build(made, quiet=True)
    shutil.rmtree(made.output_dir)
    other = recipe(sources=[{"path": str(corpus)}], max_length=32, clean={"min_chars": 20})
    second = build(other, quiet=True)
    assert second.max_length == 32 and second.fingerprint != first.fingerprint
    assert verify(made.output_dir, quiet=True) == []
