"""Table, picture, JSON and Markdown of quality.py. Arithmetic on results, no training."""

import re
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.quality_contenders import CONTENDERS
from data_pipeline.base.files import whole_file, write_atomically
from finetune.report.bootstrap import difference, mean_and_deviation, spread_over_seeds
from finetune.training.scores import SampledScore, ratio_score

BEGIN, END = "<!-- quality.py: begin -->", "<!-- quality.py: end -->"
Results = dict[str, dict[int, dict[str, list[dict]]]]  # contender, seed, task, fine-tunings


def runs_of(results: Results, name: str) -> list[tuple[int, dict[str, dict]]]:
    """(pre-training seed, task to result) of every fine-tuning number of a contender."""
    return [
        (seed, {task: each[number] for task, each in tasks.items()})
        for seed, tasks in results[name].items()
        for number in range(min(len(each) for each in tasks.values()))
    ]


def mean_score(run: dict[str, dict], split: str = "test") -> float:
    """Mean over tasks of the main score of one run, in percent."""
    return 100 * float(np.mean([result[split][result["score"]] for result in run.values()]))


def scores_of(results: Results, name: str) -> dict[str, list[SampledScore]]:
    """Task to the main score of every run."""
    runs = [run for _, run in runs_of(results, name)]
    return {task: [ratio_score(np.array(run[task]["parts"])) for run in runs] for task in runs[0]}


def summarise(results: Results, best: str, winner: str) -> dict:
    """Figures, and a row for every contender."""
    rows, means = [], {}
    for name in results:
        runs = runs_of(results, name)
        values = [mean_score(run) for _, run in runs]
        by_seed: dict[int, list[float]] = {}
        for seed, run in runs:
            by_seed.setdefault(seed, []).append(mean_score(run))
        tasks = runs[0][1]
        scores = {
            task: {
                score: mean_and_deviation([100 * run[task]["test"][score] for _, run in runs])
                for score in tasks[task]["test"]
            }
            for task in tasks
        }
        means[name] = float(np.mean(values))
        rows.append(
            {
                "name": name,
                "about": CONTENDERS[name].about,
                "seeds": len(by_seed),
                "runs": len(runs),
                "mean": means[name],
                "deviation": mean_and_deviation(values)[1],
                "seed_deviation": spread_over_seeds(by_seed),
                "main_scores": {task: tasks[task]["score"] for task in tasks},
                "tasks": scores,
                "over_untrained": vars(
                    difference(scores_of(results, name), scores_of(results, "untrained"))
                ),
            }
        )
    against = {
        other: difference(scores_of(results, winner), scores_of(results, other))
        for other in ("teacher", "untrained", "masked_lm")
    }
    spread = max(row["seed_deviation"] for row in rows if row["name"] in (winner, "masked_lm"))
    figures = {
        "student_over_teacher": means[winner] / means["teacher"],
        "points_over_scratch": against["untrained"].points,
        "points_over_mlm": against["masked_lm"].points,
        "points_over_mlm_spread": spread,
    }
    return {
        "best_relations": best,
        "best_student": winner,
        "figures": figures,
        "best_against": {name: vars(found) for name, found in against.items()},
        "goals": {
            "keeps 98% of the teacher": figures["student_over_teacher"] >= 0.98,
            "3 points above never pre-trained": figures["points_over_scratch"] >= 3,
            "above masked LM by more than twice the spread": figures["points_over_mlm"]
            > 2 * spread,
        },
        "rows": sorted(rows, key=lambda row: -row["mean"]),
    }


def write(summary: dict, options, libraries: tuple[str, ...]) -> None:
    """Print the table; write the picture, and JSON and Markdown where they are asked for."""
    text = table(summary)
    print(text)
    picture = options.picture or options.work / "quality.png"
    draw(summary, picture)
    print(f"{picture}: the picture")
    report.write(options.json, summary["figures"], vars(options), libraries, summary=summary)
    if options.results:
        replace_section(options.results, section(summary, options))


def table(summary: dict) -> str:
    """A Markdown table: one row a contender, best first; points with 95% intervals."""
    tasks = summary["rows"][0]["main_scores"]
    heads = ["encoder", "mean", "over never pre-trained [95%]"]
    heads += [f"{task} ({score.replace('_', ' ')})" for task, score in tasks.items()]
    lines = ["| " + " | ".join([*heads, "seeds x fine-tunings"]) + " |"]
    lines.append("|---" + "|---:" * (len(heads)) + "|")
    for row in summary["rows"]:
        gain = row["over_untrained"]
        cells = [
            f"{row['about']} (`{row['name']}`)",
            f"{row['mean']:.1f} ± {row['deviation']:.1f}",
            f"{gain['points']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}]",
        ]
        for task, score in tasks.items():
            mean, deviation = row["tasks"][task][score]
            extra = row["tasks"][task].get("macro_f1")
            more = f" (macro-F1 {extra[0]:.1f})" if task == "inews" and extra else ""
            cells.append(f"{mean:.1f} ± {deviation:.1f}{more}")
        cells.append(f"{row['seeds']} x {row['runs'] // row['seeds']}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def hours_line(hours: dict) -> str:
    """`masked_lm 0.5, distillation 2.1, ...`."""
    return ", ".join(f"{name} {value:.2f}" for name, value in hours.items() if name != "total")


def section(summary: dict, options) -> str:
    """What RESULTS.md says of a run: commit, machine, command, hours, table, goals."""
    from data_pipeline.base.machine import machine

    asked = (f"--{name} {_word(value)}" for name, value in vars(options).items() if value)
    facts = ", ".join(f"{key} {value}" for key, value in machine("paddlepaddle").items())
    goals = "\n".join(
        f"- {name}: {'reached' if is_met else 'not reached'}"
        for name, is_met in summary["goals"].items()
    )
    hours, figures = summary["hours"], summary["figures"]
    return (
        f"{date.today()}, commit {report.commit(Path(__file__).parent)}, {facts}.\n\n"
        f"`python benchmarks/quality.py {' '.join(asked)}`\n\n"
        f"Hours predicted {hours['total']:.1f}, taken {hours['taken']:.1f}. Test scores in "
        "percent, mean ± standard deviation over runs; chosen on dev: relations "
        f"`{summary['best_relations']}`, best student `{summary['best_student']}`.\n\n"
        f"{table(summary)}\n\n"
        f"The best student has {100 * figures['student_over_teacher']:.1f}% of the teacher's mean, "
        f"is {figures['points_over_scratch']:+.1f} points from never pre-trained and "
        f"{figures['points_over_mlm']:+.1f} from masked language model alone (spread over seeds "
        f"{figures['points_over_mlm_spread']:.1f}).\n\n{goals}\n"
    )


def _word(value) -> str:
    """What is typed after an option."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def replace_section(path: Path, text: str) -> None:
    """Put `text` between this benchmark's marks in a Markdown file, at its end if it has none."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    new = f"{BEGIN}\n\n{text}\n{END}"
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if pattern.search(before):
        after = pattern.sub(lambda _: new, before)
    else:
        after = f"{before.rstrip()}\n\n## Quality of distilled students\n\n{new}\n".lstrip()
    write_atomically(path, after)


def draw(summary: dict, path: Path) -> None:
    """A dot for each run and a bar of one standard deviation, one line a contender."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = summary["rows"][::-1]
    figure = Figure(figsize=(8, 0.5 * len(rows) + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = range(len(rows))
    axes.errorbar(
        [row["mean"] for row in rows],
        places,
        xerr=[row["deviation"] for row in rows],
        fmt="o",
        capsize=4,
    )
    untrained = next(row["mean"] for row in rows if row["name"] == "untrained")
    axes.axvline(untrained, color="grey", linestyle=":", label="never pre-trained")
    axes.set_yticks(list(places), [row["about"] for row in rows])
    tasks = len(rows[0]["main_scores"])
    axes.set_xlabel(f"mean test score over {tasks} tasks, % (bars: standard deviation over runs)")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(loc="lower right")
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
