"""Write the tables of docs/benchmarks.md from what is kept in `benchmarks/results/`.

    python -m benchmarks.page            writes them
    python -m benchmarks.page --check    exit code 1 if they are not what the results say

A table of TABLES stands between `<!-- NAME -->` and `<!-- end of NAME -->`; what people wrote around it stays.
"""

from __future__ import annotations

import fnmatch
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from benchmarks import contexts, many, noop, shared_layers, sizes
from benchmarks.cache_methods import FLOOR, OURS
from benchmarks.goals import GOALS, PER_FILE, RCLONE, TAR, Verdict
from benchmarks.session import ROOT, Session, load_all

PAGE = ROOT / "docs" / "benchmarks.md"
_PLACE = re.compile(r"^<!-- (\w+) -->$.*?^<!-- end of \1 -->$", re.MULTILINE | re.DOTALL)

Sessions = Mapping[str, Session]
Row = tuple[str, ...]


def page(sessions: Sessions, old: str) -> str:
    """Return the page with the tables of today. Raises KeyError for a table that there is none of."""

    def made(place: re.Match[str]) -> str:
        name = place[1]
        return f"<!-- {name} -->\n\n{TABLES[name](sessions)}\n\n<!-- end of {name} -->"

    return _PLACE.sub(made, old)


def goals(sessions: Sessions) -> str:
    """Return the table of what was to be reached."""
    rows = []
    for goal in GOALS:
        judged = goal.judged(sessions)
        own, others, floors = judged or ("not measured", [], [])
        met = [verdict.met for verdict in (*others, *floors) if verdict.met is not None]
        verdict = (
            "" if not met else "met" if all(met) else "missed" if not any(met) else f"{sum(met)} of {len(met)} met"
        )
        rows.append((goal.what, own, _verdicts(others), _verdicts(floors), verdict, goal.holds))
    return _table(
        ("what", "takes", "others, times as much", "of the floor, and limits", "goals", "what holds it back"), rows
    )


def _verdicts(verdicts: Iterable[Verdict]) -> str:
    return "; ".join(f"**{one.text}: missed**" if one.met is False else one.text for one in verdicts)


def nothing_to_do(sessions: Sessions) -> str:
    """Return the table of a doit with nothing to do."""
    session = sessions["noop"]

    def times(subject: str) -> str:
        other = noop.OURS if subject == noop.BAKE else noop.EMPTY
        if subject == other:
            return ""
        wall, cpu = (session.ratio(noop.CASE, subject, other, metric) for metric in ("wall_s", "cpu_s"))
        return f"{_number(wall)}, {_number(cpu)} of {other}"

    rows = [
        (
            subject,
            *(_median(session, noop.CASE, subject, metric) for metric in ("wall_s", "cpu_s", "memory_mb")),
            times(subject),
        )
        for subject in session.subjects(noop.CASE)
    ]
    return _table(("command", "wall s", "CPU s", "MB", "times: wall, CPU"), rows) + _where(session)


def many_tiers(sessions: Sessions) -> str:
    """Return the tables of thousands of tiers: of each shape seconds of processor, of the tree wall seconds and memory, too."""
    session = sessions["many_1000"]
    shapes = session.cases

    def cell(case: str, subject: str, metric: str) -> str:
        ratio = session.ratio(case, subject, many.BESIDE, metric)
        return f"{_median(session, case, subject, metric)} ({_number(ratio)})"

    rows = [
        (subject, *(cell(case, subject, "cpu_s") for case in shapes), cell(shapes[0], subject, "wall_s"))
        for subject in session.subjects(shapes[0])
    ]
    names = [case.rpartition(" ")[2] for case in shapes]
    first = _table(("CPU s", *names, f"wall s, {names[0]}"), rows) + _where(session)
    return (
        first + "\n\n" + by_subject("many_10000", {"wall s": "wall_s", "CPU s": "cpu_s", "MB": "memory_mb"})(sessions)
    )


def large_contexts(sessions: Sessions) -> str:
    """Return the table of large contexts."""
    session = sessions["contexts"]
    columns = {"MB": "size_mb", "first s": "first_s", "sent s": "sent_s", "after an edit s": "edited_s"}
    columns |= {"unchanged s": "unchanged_s", "memory MB": "memory_mb"}
    rows = [
        (
            case,
            *(_median(session, case, contexts.OURS, metric) for metric in columns.values()),
            _median(session, case, contexts.FLOOR, "first_s"),
        )
        for case in session.cases
    ]
    return _table(("context", *columns, contexts.FLOOR), rows) + _where(session)


def moved(benchmark: str, subjects: Sequence[str]) -> Callable[[Sessions], str]:
    """Make the table of the ways to move a ccache directory: wall seconds (of the processor; requests)."""

    def table(sessions: Sessions) -> str:
        session = sessions[benchmark]

        def cell(case: str, subject: str) -> str:
            walls, cpu = session.runs(case, subject, "wall_s"), session.median(case, subject, "cpu_s")
            if not walls:
                return ""
            spread = f" {_number(min(walls))}-{_number(max(walls))}" if len(walls) > 1 else ""
            asked = statistics.median_high(session.runs(case, subject, "requests"))
            return f"**{_number(statistics.median(walls))}**{spread} ({_number(cpu)}; {asked:,.0f})"

        rows = [(case, *(cell(case, subject) for subject in subjects)) for case in session.cases]
        return _table(("", *subjects), rows) + _where(session)

    return table


def by_subject(benchmark: str, columns: Mapping[str, str]) -> Callable[[Sessions], str]:
    """Make a table with a row for each subject and a column for each metric, of a benchmark with one case."""

    def table(sessions: Sessions) -> str:
        session = sessions[benchmark]
        (case,) = session.cases
        rows = [
            (subject, *(_median(session, case, subject, metric) for metric in columns.values()))
            for subject in session.subjects(case)
        ]
        return _table((case, *columns), rows) + _where(session)

    return table


def by_case(names: str, usual: str, columns: Mapping[str, str]) -> Callable[[Sessions], str]:
    """Make a table with a row for each case, of all benchmarks with such names (as in a shell).

    Subjects other than the usual one are named. What has none of the columns has no row.
    """

    def table(sessions: Sessions) -> str:
        chosen = [sessions[name] for name in fnmatch.filter(sorted(sessions), names)]
        rows = [
            (
                case if subject == usual else f"{case}: {subject}",
                *(_median(session, case, subject, metric) for metric in columns.values()),
            )
            for session in chosen
            for case in session.cases
            for subject in session.subjects(case)
        ]
        return _table(("", *columns), (row for row in rows if any(row[1:]))) + "".join(map(_where, chosen))

    return table


def builders(sessions: Sessions) -> str:
    """Return the table of builder images, alone and with a registry's layers."""
    chosen = [session for name, session in sorted(sessions.items()) if name.startswith("shared_layers")]
    rows = []
    for session in chosen:
        (case,) = session.cases
        walls = [session.runs(case, how, "wall_s") for how in (shared_layers.ALONE, shared_layers.SHARED)]
        ratio = session.ratio(case, shared_layers.ALONE, shared_layers.SHARED, "wall_s")
        seconds = (", ".join(map(_number, found)) for found in walls)
        rows.append((case, _median(session, case, shared_layers.IMAGE_ITSELF, "size_mb"), *seconds, _number(ratio)))
    head = ("", "MB", shared_layers.ALONE, shared_layers.SHARED, "times")
    return _table(head, rows) + "".join(map(_where, chosen))


def updates(sessions: Sessions) -> str:
    """Return the table of what an update of wheels costs, in one layer and in several."""
    chosen = [session for name, session in sorted(sessions.items()) if name.startswith("wheel_layers")]
    rows = [
        (case, subject, *(_median(session, case, subject, metric) for metric in UPDATE.values()))
        for session in chosen
        for case in session.cases
        for subject in session.subjects(case)
    ]
    return _table(("", "", *UPDATE), rows) + "".join(map(_where, chosen))


def weights(sessions: Sessions) -> str:
    """Return the table of what images weigh."""
    session = sessions["sizes"]
    rows = [
        (
            case,
            _median(session, case, sizes.WHOLE, "size_mb"),
            "; ".join(
                f"{_code(subject)} {_median(session, case, subject, 'size_mb')}"
                for subject in session.subjects(case)
                if subject != sizes.WHOLE
            ),
        )
        for case in session.cases
    ]
    return _table(("image", "MB", "its own layers"), rows) + _where(session)


SCALE = {
    "CPU s": "cpu_s",
    "wall s": "wall_s",
    "MB": "memory_mb",
    "requests": "requests",
    "head kB": "head_kb",
    "load": "load",
}
WORKER = {
    "wall s": "wall_s",
    "builder": "builder_s",
    "pull": "pull_s",
    "compile": "compile_s",
    "push": "push_s",
    "images": "images_s",
    "the rest": "rest_s",
    "hits": "hits",
    "of": "calls",
    "requests": "requests",
}
PYTORCH = {
    "whole `doit`": "wall_s",
    "pull": "pull_s",
    "configure": "configure_s",
    "compile and link": "compile_s",
    "of that links": "link_s",
    "package": "package_s",
    "torchvision, torchaudio": "extensions_s",
    "push": "push_s",
    "images": "images_s",
    "checks and the rest": "rest_s",
    "hits": "hits",
    "of": "calls",
    "MB down": "received_mb",
    "MB up": "sent_mb",
    "load": "load",
}
UPDATE = {
    "image, MB in the registry": "image_mb",
    "MB of an update": "update_mb",
    "build, s": "build_s",
    "push, s": "push_s",
    "pull, s": "pull_s",
    "load": "load",
}
COUNTS = ("requests", "hits", "calls", "objects")
METHODS = (OURS, FLOOR, TAR, "tar x, no network", PER_FILE, RCLONE)
TABLES: dict[str, Callable[[Sessions], str]] = {
    "goals": goals,
    "noop": nothing_to_do,
    "many": many_tiers,
    "contexts": large_contexts,
    "cache": moved("cache", METHODS),
    **{name: moved(name, METHODS) for name in ("cache_real", "cache_real_torch", "cache_real_cuda")},
    "cache_scale_200000": by_case("cache_scale_200000", "imagetiers", SCALE),
    "cache_scale_2000000": by_case("cache_scale_2000000", "imagetiers", SCALE),
    "fresh_worker": by_case("fresh_worker", "doit", WORKER),
    "shared_layers": builders,
    "pytorch_warm": by_case("pytorch_warm*", "doit on a fresh worker", PYTORCH),
    "cuda_warm": by_case("cuda_warm*", "doit on a fresh worker", PYTORCH),
    "wheel_layers": updates,
    "sizes": weights,
}


def _where(session: Session) -> str:
    """Return the paragraph below a table: when and on what, and how to do it again."""
    day = session.began.partition("T")[0]
    words = [f"{day}, {session.revision[:9]}" if session.revision else day, f"{session.machine.cores} cores"]
    before, after = session.load
    if after is not None:
        words.append(f"load {after:.1f}" if before is None else f"load {before:.1f} to {after:.1f}")
    runs = sorted({len(found) for one in session.measured for found in one.runs.values()})
    words.append(f"{' or '.join(map(str, runs))} run{'s' if runs != [1] else ''}")
    words += [f"{name} {number}" for name, number in session.versions.items()]
    return "\n\n" + " ".join((f"`{session.command}`: {', '.join(words)}.", *session.notes))


def _median(session: Session, case: str, subject: str, metric: str) -> str:
    value = session.median(case, subject, metric)
    if value is not None and metric in COUNTS:
        return f"{value:,.0f}"
    return _number(value)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _code(text: str) -> str:
    return f"`{text}`" if " " in text else text


def _table(head: Sequence[str], rows: Iterable[Row]) -> str:
    def lines() -> Iterator[str]:
        for row in (tuple(head), ("---",) * len(head), *rows):
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"

    return "\n".join(lines())


def main() -> int:
    """Run the command line; return the exit code."""
    old = PAGE.read_text(encoding="utf-8")
    new = page(load_all(), old)
    if sys.argv[1:] == ["--check"]:
        if new != old:
            sys.stderr.write(
                "docs/benchmarks.md is not what the results say\n  hint: python -m benchmarks.page writes it\n"
            )
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
