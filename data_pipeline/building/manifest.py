"""The manifest of a build: results of all tasks added up and checked."""

from collections import Counter
from typing import Any

from data_pipeline.base.errors import UserError
from data_pipeline.building.plan import Plan
from data_pipeline.shards.format import FORMAT_VERSION, Manifest, ShardInfo
from data_pipeline.text import vocab

SHOWN_CHARACTERS = 12


def make_manifest(
    plan: Plan,
    settings: dict[str, Any],
    versions: dict[str, str],
    read: list[dict[str, Any]],
    written: list[dict[str, Any]],
    write_counters: list[dict[str, int]],
) -> Manifest:
    """The manifest of the results of the steps `unpack` and `read`, and of what `write` made of
    each shard.

    UserError when no sample is left, or when too many tokens are [UNK].
    """
    tokens = vocab.read(plan.vocab_file)
    infos = [ShardInfo(**result["shard"]) for result in written if result["shard"]]
    samples, all_tokens = sum(s.samples for s in infos), sum(s.tokens for s in infos)
    counters: Counter = Counter()
    for counted in (*(result["counters"] for result in read), *write_counters):
        counters.update(counted)
    if samples == 0:
        raise UserError(
            f"no sample is left of {counters['lines_in']:,} lines and "
            f"{counters['sentences_in']:,} sentences: {_reasons(counters)}"
        )
    unk_share = sum(result["unknown"] for result in written) / max(all_tokens - 2 * samples, 1)
    _check_unknown(plan.recipe.vocab.max_unk_share, unk_share, written)
    histograms = zip(*(result["histogram"] for result in written), strict=True)
    return Manifest(
        format_version=FORMAT_VERSION,
        vocab_size=len(tokens),
        vocab_sha256=vocab.sha256(tokens),
        special_ids=vocab.special_ids(tokens),
        max_length=plan.recipe.max_length,
        samples=samples,
        tokens=all_tokens,
        unk_share=unk_share,
        shards=infos,
        length_histogram=[sum(column) for column in histograms],
        settings=settings,
        counters={name: counters[name] for name in sorted(counters)},
        versions=versions,
        skipped=_skipped(read),
    )


def _skipped(read: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was skipped, once for each file and kind."""
    counts: Counter = Counter()
    for result in read:
        for item in result["skipped"]:
            counts[item["file"], item["what"]] += item["count"]
    return [{"file": file, "what": what, "count": n} for (file, what), n in counts.items()]


def _check_unknown(limit: float, share: float, written: list[dict[str, Any]]) -> None:
    if share <= limit:
        return
    unknown: Counter = Counter()
    for result in written:
        unknown.update(result["unknown_characters"])
    examples = " ".join(f"{c!r}x{count}" for c, count in unknown.most_common(SHOWN_CHARACTERS))
    raise UserError(
        f"vocab: {share:.2%} of the tokens are [UNK], more than vocab.max_unk_share {limit:.2%}. "
        f"Most often: {examples}. Use a vocabulary that fits the text, clean the text more, or "
        "raise the limit; then build again"
    )


def _reasons(counters: Counter) -> str:
    names = (
        "lines_blank",
        "sentences_too_short",
        "sentences_not_chinese",
        "documents_not_chinese",
        "records_bad",
    )
    return ", ".join(f"{name} {counters[name]:,}" for name in names if counters[name]) or "no text"
