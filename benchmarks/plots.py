"""Draw the kept results and write their tables: docs/plots/*.svg and the figures of docs/benchmarks.md.

    python benchmarks/plots.py

Everything between the two marks of docs/benchmarks.md is written anew from ``benchmarks/results/*.json``, each
section with its command, machine, date and load, so that no figure stands there without the run that made it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import svg
from report import RESULTS, ROOT, table

PLOTS = ROOT / "docs" / "plots"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: written by benchmarks/plots.py -->", "<!-- end of figures -->"
Section = tuple[str, str, dict[str, str]]
"""Heading, Markdown, and charts by name."""


def middle(value: Any) -> tuple[float, float, float]:
    """Median, least and greatest of a spread, or a plain figure three times."""
    if isinstance(value, dict):
        return value["median"], value["min"], value["max"]
    return float(value), float(value), float(value)


def bar(label: str, value: Any, *, ours: bool = False) -> svg.Bar:
    return svg.Bar(label, *middle(value), ours)


def pipeline(found: dict[str, Any]) -> Section:
    names = {
        "program_chunks_per_s": "the program, chunks/s",
        "limit_chunks_per_s": "the bare model, chunks/s",
        "share_of_limit": "share of the limit, model loaded",
        "share_of_limit_whole_process": "share of the limit, whole process",
        "cpu_share_of_model": "model's CPU in all CPU",
        "model_idle_share": "model thread idle though chunks waited",
        "program_cpu_ms_per_chunk": "the program, CPU ms a chunk",
        "limit_cpu_ms_per_chunk": "the bare model, CPU ms a chunk",
        "program_peak_MiB": "the program, peak MiB",
        "limit_peak_MiB": "the bare model, peak MiB",
        "others_cpu_s": "CPU seconds of other programs in a run",
    }
    corpus = found["corpus"]
    said = (
        f"{corpus['files']} files, {corpus['MB']} MB, {corpus['chunks']} chunks embedded; the limit: passes of "
        f"{found['limit']['padded_tokens']} padded tokens, {found['limit']['way']}, the fastest of those tried.\n\n"
    )
    rows = [{"figure": text, "median (min-max)": found[key]} for key, text in names.items()]
    chart = svg.bars(
        "Indexing against the bare model",
        "chunks a second, same chunks and weights; line: least and greatest run",
        [
            bar("folder-mcp", found["program_chunks_per_s"], ours=True),
            bar("bare model, best batches", found["limit_chunks_per_s"]),
        ],
    )
    return "Indexing against the bare model", said + table(rows), {"pipeline": chart}


def others(found: dict[str, Any]) -> Section:
    rows = found["rows"]
    charts = {
        f"others-{name}": svg.bars(
            f"Same folder, same weights: {what}",
            "process start to searchable by meaning; line: least and greatest run",
            [
                bar(row["program"], row[key], ours=row["program"] == "folder-mcp")
                for row in rows
                if "alone" not in row["program"]
            ],
        )
        for name, key, what in (
            ("text", "kB/s", "text, kB a second"),
            ("tokens", "tokens/s", "tokens through the model a second"),
        )
    }
    best = [{"figure": key, **value} for key, value in found["ours_against_the_best"].items()]
    corpus = found["corpus"]
    said = f"{corpus['files']} files, {corpus['MB']} MB, {corpus['questions']} questions (headings of the files).\n\n"
    return "Other programs", said + table(rows) + "\n\n" + table(best), charts


def start(found: dict[str, Any]) -> Section:
    rows = found["rows"]
    chart = svg.bars(
        "From launch to the first hit by word",
        f"seconds, {found['files']:,} generated notes; line: least and greatest run",
        [bar(f"{row['runtime']}, {row['start']}", row["first hit by word"], ours=True) for row in rows],
    )
    after = found["after_the_import_of_the_store"]
    said = "\n\nIn a process that has imported the store library:\n\n" + table([after])
    return "Start", table(rows) + said, {"start": chart}


def clients(found: dict[str, Any]) -> Section:
    rows = found["rows"]
    chart = svg.bars(
        "Search by meaning, p95 by what goes on and how many ask",
        "milliseconds",
        [bar(f"{r['while']}, {r['clients']} clients", r["p95_ms"], ours=True) for r in rows if r["mode"] != "keyword"],
    )
    said = "\n\nThe target, p95 while indexing at most p95 at rest and one micro-batch:\n\n" + table(found["target"])
    return "Searches while other things go on", table(rows) + said, {"clients": chart}


def incremental(found: dict[str, Any]) -> Section:
    text, bars = "", []
    for files, each in found.items():
        if not isinstance(each, dict) or "unchanged" not in each:
            continue
        same = {"what": "nothing changed", **each["unchanged"], "whole process s": each["unchanged_whole_process_s"]}
        text += f"**{files}**\n\n{table([same])}\n\n"
        text += table([{"what": what, **row} for what, row in each["changes"].items()]) + "\n\n"
        bars.append(bar(f"{files}, nothing changed", each["unchanged"]["times_the_bare_walk"], ours=True))
    chart = svg.bars("An unchanged folder", "times a bare walk with stat of the same tree", bars)
    return "Changes", text.rstrip(), {"incremental": chart}


def memory(found: dict[str, Any]) -> Section:
    marks, kinds = found["marks"], ("anonymous", "pss_of_all")
    chart = svg.lines(
        "Anonymous memory over load and unload, then edits",
        "MiB by mark: indexed, cycles of loaded and unloaded, edits every five seconds, after",
        [svg.Line(key, [(float(at), mark[key]) for at, mark in enumerate(marks)]) for key in kinds],
    )
    columns = ("what", "anonymous first", "anonymous last", "anonymous", "pss_of_all", "threads", "files_open")
    return "Memory", table(found["rows"], columns), {"memory": chart}


def scale(found: dict[str, Any]) -> Section:
    rows = found["rows"]
    figures = ("search_p50_ms", "bare_p50_ms", "disk_bytes_a_chunk", "peak_MB", "open_s")
    present = [key for key in figures if all(key in row for row in rows)]
    chart = svg.lines(
        "How cost grows with the index",
        "both axes logarithmic; across: chunks",
        [svg.Line(key, [(float(row["chunks"]), middle(row[key])[0]) for row in rows]) for key in present],
        log=True,
    )
    said = "\n\nStages of a search, p50 / p95 milliseconds and, after the stroke, p50 of CPU:\n\n"
    return (
        "Scale",
        table(rows) + (said + table(by_stage(found["stages"])) if "stages" in found else ""),
        {"scale": chart},
    )


def by_stage(laps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each stage, with a column for each size, cold and warm."""
    columns = {f"{lap['chunks']:,}, {lap['when']}": "" for lap in laps}
    rows = {lap["stage"]: {"stage": lap["stage"], **columns} for lap in laps}
    for lap in laps:
        figures = f"{lap['p50_ms']} / {lap['p95_ms']} - {lap['cpu_p50_ms']}"
        rows[lap["stage"]][f"{lap['chunks']:,}, {lap['when']}"] = figures
    return list(rows.values())


SECTIONS: dict[str, Callable[[dict[str, Any]], Section]] = {
    "pipeline": pipeline,
    "others": others,
    "start": start,
    "clients": clients,
    "incremental": incremental,
    "memory": memory,
    "scale": scale,
}


def ran_on(found: dict[str, Any]) -> str:
    """Where and when a run was made, one paragraph."""
    place, load = found["machine"], found["load"]
    versions = ", ".join(f"{name} {version}" for name, version in place["versions"].items())
    return (
        f"`{found['command']}`, {found['date']}, commit {place['commit']}; {place['processor']}, {place['cores']} "
        f"cores, {place['memory_GiB']} GiB, {place['system']}, Python {place['python']}, {versions}; load average "
        f"{load['before']} before, {load['after']} after."
    )


def drawn(results: Path) -> tuple[str, dict[str, str]]:
    """What belongs between the marks, and the charts by name, from the kept runs."""
    written, pictures = [], {}
    for name, section in SECTIONS.items():
        file = results / f"{name}.json"
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            heading, text, charts = section(found)
            shown = "".join(f"![{heading}](plots/{chart}.svg)\n\n" for chart in charts)
            written.append(f"## {heading}\n\n{ran_on(found)}\n\n{shown}{text}\n")
            pictures |= charts
    return "\n".join(written), pictures


def rewritten(page: str, figures: str) -> str:
    """The page with these figures between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{figures}\n{END}{rest.split(END)[1]}"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    figures, pictures = drawn(RESULTS)
    PLOTS.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        (PLOTS / f"{name}.svg").write_text(picture, encoding="utf-8")
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} and {len(pictures)} charts in {PLOTS.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
