"""Faults of disks, files and users: each ends in one sentence, and nothing finished is lost."""

import dataclasses
import gzip
import json
import zipfile

import pytest

from data_pipeline.base.errors import UserError
from data_pipeline.building import build as module
from data_pipeline.building import plan, steps
from data_pipeline.building.build import build
from data_pipeline.shards import format as shards
from data_pipeline.shards.verify import verify
from data_pipeline.text import vocab


def test_a_shard_that_was_deleted_from_finished_output_is_missed(corpus, recipe):
    made = recipe(sources=[{"path": str(corpus)}])
    manifest = build(made, quiet=True)
    path = made.output_dir / manifest.shards[1].file
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name} is missing; restore it, or remove"):
        build(made, quiet=True)
    path.write_bytes(data[:-1])
    with pytest.raises(UserError, match=rf"{path.name} is not as it was written"):
        build(made, quiet=True)
    path.write_bytes(data)
    assert build(made, quiet=True) == manifest


def test_a_recipe_that_was_refused_can_be_corrected(tmp_path, recipe):
    rows = [{"body": f"这是第{i}篇很好的文章。"} for i in range(50)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(UserError, match=r"a\.jsonl: 50 of 50 are records without text"):
        build(recipe(sources=[{"path": str(path)}]), quiet=True)
    corrected = recipe(sources=[{"path": str(path), "fields": ["body"]}], clean={"min_chars": 2})
    assert build(corrected, quiet=True).counters["documents_out"] == 50


def test_a_limit_that_was_raised_does_not_make_another_recipe(
    corpus, recipe, tmp_path, monkeypatch
):
    path = tmp_path / "small.txt"
    vocab.write(path, [*vocab.SPECIAL.values(), "的", "，", "。"])
    sections = {"sources": [{"path": str(corpus)}]}
    with pytest.raises(UserError, match="then build again"):
        build(recipe(vocab={"file": str(path)}, **sections), quiet=True)
    done = []
    original = steps.execute
    monkeypatch.setattr(steps, "execute", lambda task: done.append(task) or original(task))
    raised = recipe(vocab={"file": str(path), "max_unk_share": 1.0}, **sections)
    build(raised, quiet=True)
    assert done == []  # all that was finished is used


def test_an_interrupted_build_of_another_recipe_is_still_refused(corpus, recipe, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_pipeline.building.vocabulary.make", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(recipe(sources=[{"path": str(corpus)}]), quiet=True)
    monkeypatch.undo()
    with pytest.raises(UserError, match="unfinished build of another recipe"):
        build(recipe(sources=[{"path": str(corpus)}], max_length=64), quiet=True)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(news, recipe, tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("\n\n".join(news[:20]).encode(encoding))
    manifest = build(recipe(sources=[{"path": str(path)}]), quiet=True)
    assert manifest.counters["bytes_undecodable"] == 0
    assert manifest.unk_share < 0.001


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.utf16.txt"])
def test_one_large_file_becomes_many_shards_with_the_same_samples(news, recipe, tmp_path, name):
    """Also one that cannot be cut by bytes; no process holds more than a piece of it."""
    data = "\n\n".join("\n".join(filter(None, text.split("\n"))) for text in news)
    path = tmp_path / name
    encoded = data.encode("utf-16" if "utf16" in name else "utf-8")
    path.write_bytes(gzip.compress(encoded) if name.endswith(".gz") else encoded)
    made = recipe(sources=[{"path": str(path)}], pack="sentence", piece_mb=0.1)
    manifest = build(made, quiet=True)
    (tmp_path / "plain.txt").write_text(data, encoding="utf-8")
    expected = build(
        recipe(
            sources=[{"path": str(tmp_path / "plain.txt")}],
            pack="sentence",
            output_dir=str(tmp_path / "expected"),
        ),
        quiet=True,
    )
    assert (manifest.samples, manifest.tokens) == (expected.samples, expected.tokens)
    assert len(manifest.shards) >= len(encoded) / 1.6e5
    assert max(s.tokens for s in manifest.shards) < 3 * manifest.tokens / len(manifest.shards)
    assert verify(made.output_dir, quiet=True) == []


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_file_that_is_mostly_no_text_fails_by_name(corpus, recipe, tmp_path, policy):
    path = tmp_path / "picture.txt"
    path.write_bytes(bytes(range(128, 256)) * 100 + "这是我们的一句话。\n".encode() * 400)
    made = recipe(
        sources=[{"path": str(corpus)}, {"path": str(path), "encoding": "utf-8"}],
        run={"damaged_files": policy},
    )
    if policy == "stop":
        with pytest.raises(UserError, match=r"picture\.txt: 12,800 of .* above max_bad_share 5%"):
            build(made, quiet=True)
        return
    manifest = build(made, quiet=True)
    assert {"file": str(path), "what": "bytes_undecodable", "count": 12_800} in manifest.skipped
    assert any("max_bad_share" in item["what"] for item in manifest.skipped)


def test_tasks_of_an_earlier_build_and_of_other_versions_are_refused(corpus, recipe, monkeypatch):
    made = recipe(sources=[{"path": str(corpus)}])
    tasks = []
    original = steps.execute
    monkeypatch.setattr(steps, "execute", lambda task: tasks.append(task) or original(task))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_pipeline.building.vocabulary.make", stop)
    with pytest.raises(KeyboardInterrupt):
        build(made, quiet=True)
    late = tasks[0]
    with pytest.raises(UserError, match=r"other versions than the build .*jieba: 9\.9 there"):
        original(dataclasses.replace(late, versions=(("jieba", "9.9"),)))
    with pytest.raises(UserError, match="belongs to an earlier build"):
        original(dataclasses.replace(late, build_id="other"))


def test_an_io_error_that_passes_is_tried_again(corpus, recipe, monkeypatch):
    monkeypatch.setattr(steps, "PAUSE", 0)
    failures = []

    def failing(build_plan, number, _, read=steps.STEPS["read"]):
        if len(failures) < 2:
            failures.append(number)
            raise OSError(116, "Stale file handle")
        return read(build_plan, number, _)

    monkeypatch.setitem(steps.STEPS, "read", failing)
    made = recipe(sources=[{"path": str(corpus)}])
    assert build(made, quiet=True).samples > 100 and failures == [0, 0]
    failures.clear()
    other = recipe(
        sources=[{"path": str(corpus)}],
        run={"retries": 1},
        output_dir=f"{made.output_dir}-2",
    )
    with pytest.raises(UserError, match=r"Stale file handle.*What is finished is saved"):
        build(other, quiet=True)


def test_too_little_free_space_is_reported_before_the_start(corpus, recipe, monkeypatch):
    usage = module.shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    made = recipe(sources=[{"path": str(corpus)}])
    with pytest.raises(UserError, match=r"needs about [\d.,]+ MB .* 0\.0 MB are free"):
        build(made, quiet=True)
    assert not list(made.output_dir.glob(".build/*/read/*"))


def test_shards_are_moved_into_place_at_the_end_only(corpus, recipe, monkeypatch):
    made = recipe(sources=[{"path": str(corpus)}])
    seen = []
    original = shards.write_shard

    def watching(*arguments, **options):
        seen.append(list(made.output_dir.glob("shard-*")))
        return original(*arguments, **options)

    monkeypatch.setattr(shards, "write_shard", watching)
    build(made, quiet=True)
    assert seen and not any(seen)
    assert not (made.output_dir / plan.FOLDER).exists()


def test_what_is_left_out_for_its_name_is_said_and_in_the_manifest(recipe, corpus, capsys):
    (corpus / "part-00001").write_text("一行。")
    (corpus / "0" / "notes.md").write_text("一行。")
    with zipfile.ZipFile(corpus / "more.zip", "w") as archive:
        archive.writestr("a.txt", "又一篇很好的文章。")
        archive.writestr("b.doc", "不是文本")
        archive.writestr("c.doc", "不是文本")
    manifest = build(recipe(sources=[{"path": str(corpus)}]), quiet=True)
    what = "files left out, whose names tell no format (1 without a suffix, 1 .md)"
    assert {"file": str(corpus), "what": what, "count": 2} in manifest.skipped
    assert manifest.counters["files_of_other_names"] == 2
    packed = {"file": str(corpus / "more.zip"), "what": "members_skipped", "count": 2}
    assert packed in manifest.skipped
    assert capsys.readouterr().err == ""
    other = recipe(sources=[{"path": str(corpus)}], output_dir=str(corpus.parent / "other"))
    build(other)
    assert f"{corpus}: 2 {what}; set `format` to read them\n" in capsys.readouterr().err


def test_a_shard_that_is_lost_before_it_is_published_is_missed(corpus, recipe, monkeypatch):
    made = recipe(sources=[{"path": str(corpus)}])
    original = module.make_manifest

    def losing(build_plan, *arguments):
        (build_plan.folder / build_plan.id / "write" / "shard-00001.h5").unlink()
        return original(build_plan, *arguments)

    monkeypatch.setattr(module, "make_manifest", losing)
    with pytest.raises(UserError, match=r"shard-00001\.h5 is missing, .*; remove .* build again"):
        build(made, quiet=True)
    assert not (made.output_dir / shards.MANIFEST).exists()
