"""``report.html``: a report of a run on one page, in a single file."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from prudence.evidence.content import read_evaluation, verdicts
from prudence.evidence.plot import plot_run, raw_config, run_title
from prudence.evidence.statistics import bootstrap_interval, interquartile_mean
from prudence.inspection import tables as inspection_tables
from prudence.runs.curves import Series, load_series
from prudence.runs.directory import RunDirectory
from prudence.runs.files import write_text_atomically

RECENT = 20

_STYLE = """
:root { --ink: #1d2430; --soft: #667085; --line: #e4e7ec; --page: #ffffff; --panel: #f7f8fa;
        --holds: #067647; --open: #b54708; --exceeded: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --soft: #98a2b3; --line: #333a46; --page: #14171c;
        --panel: #1c2129; --holds: #47cd89; --open: #fdb022; --exceeded: #f97066; } }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); background: var(--page);
       max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
.soft { color: var(--soft); } .figures { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.25rem; }
.figures div { background: var(--panel); border-radius: .5rem; padding: .6rem 1rem; }
.figures b { display: block; font-size: 1.25rem; } .figures span { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; font-size: .85rem; }
.holds { color: var(--holds); } .open { color: var(--open); } .exceeded { color: var(--exceeded); }
img, video { max-width: 100%; border-radius: .5rem; background: #fff; } video { margin: 0 .75rem .75rem 0; }
details { margin-top: .5rem; } summary { cursor: pointer; color: var(--soft); }
.config { columns: 2 22rem; column-gap: 2rem; margin-top: .75rem; }
.config section { break-inside: avoid; margin-bottom: 1rem; }
.config h3 { font-size: .85rem; color: var(--soft); font-weight: 500; margin: 0 0 .25rem; }
.config td, code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .8rem; }
.config td { padding: .1rem .75rem .1rem 0; border: 0; overflow-wrap: anywhere; }
"""


def write_report(run: Path | str, out: Path | str | None = None) -> Path:
    """Writes ``report.html`` in a run directory: key figures, curve, evaluation, images, videos and configuration.

    Images are embedded. Videos are linked as files, so they play only while the report is in the run directory. Parts
    that the run does not have are left out.

    Args:
        out: directory to write to. The report shows its evaluation, images and videos. By default it is the run's.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: the run has no metrics, and is not a recorded policy (which never has any).
    """
    source = RunDirectory(Path(run))
    directory = source if out is None else RunDirectory(Path(out))
    series, config = {} if source.ships else load_series(source.path), raw_config(source.path)
    title = run_title(config, source.path.name)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="soft">{escape(directory.path.resolve().name)}</div>',
        _figures(series),
        _curve(source.path, series),
        _evaluation(directory.evaluation),
        _inspection(directory.path / inspection_tables.FILE),
        _pictures(directory.path),
        _videos(directory),
        _configuration(config),
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
    write_text_atomically(directory.report, page)
    return directory.report


def _figures(series: Mapping[str, Series]) -> str:
    """The most important numbers of the run."""
    steps = max((s.steps[-1] for s in series.values()), default=0.0)
    shown = {"environment steps": f"{steps:,.0f}"}
    if "time/wall" in series:
        shown["wall time"] = _duration(series["time/wall"].values[-1])
    for name, label in (("episode/return", "return"), ("episode/cost", "cost")):
        if name in series:
            recent = series[name].values[-RECENT:]
            shown[f"{label}, last {len(recent)} training episodes"] = f"{recent.mean():.2f}"
    cells = "".join(f"<div><b>{value}</b><span>{label}</span></div>" for label, value in shown.items())
    return f'<div class="figures">{cells}</div>'


def _curve(run: Path, series: Mapping[str, Series]) -> str:
    if not any(name.startswith("episode/") for name in series):
        return ""
    return f"<h2>Learning curve</h2>{_embedded(plot_run(run))}"


def _evaluation(path: Path) -> str:
    """Mean, interval and interquartile mean of return and costs, and the verdict on each budget."""
    if not path.exists():
        return ""
    found = read_evaluation(path)
    returns, costs = np.array(found["returns"], dtype=float), np.array(found["costs"], dtype=float)
    names = found["cost_names"]
    rows = [_row("return", returns), *(_row(name, costs[:, index]) for index, name in enumerate(names))]
    lines = [
        f'<p class="{verdict.status}"><b>{escape(name)}</b>: {escape(verdict.text)}</p>'
        for name, verdict in zip(names, verdicts(found), strict=found["budgets"] is not None)
    ]
    if sequential := found.get("until_decided"):
        lines.append(f'<p class="soft">{_until_decided(sequential)}</p>')
    head = "<tr><th></th><th>mean</th><th>95 % interval</th><th>interquartile mean</th><th>least, most</th></tr>"
    count = f'<p class="soft">{len(returns)} episodes on seeds apart from training\'s.</p>'
    return f"<h2>Evaluation</h2>{count}<table>{head}{''.join(rows)}</table>{''.join(lines)}"


def _until_decided(found: Mapping[str, Any]) -> str:
    looks = ", ".join(str(look["episodes"]) for look in max((d["looks"] for d in found["decisions"]), key=len))
    wrong = 100 * (1 - found["confidence"])
    return (
        f"Evaluated until decided, looking after {looks} episodes: a verdict is wrong in at most {wrong:.2g} % of such "
        "evaluations, for each constraint."
    )


def _row(name: str, values: np.ndarray) -> str:
    interval = bootstrap_interval(values)
    between = "one episode" if math.isnan(interval.low) else f"{interval.low:.2f} to {interval.high:.2f}"
    middle = float(interquartile_mean(values))
    cells = [
        escape(name),
        f"{interval.estimate:.2f}",
        between,
        f"{middle:.2f}",
        f"{values.min():.2f}, {values.max():.2f}",
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _inspection(path: Path) -> str:
    """Tables of `prudence inspect`."""
    if not path.exists():
        return ""
    parts = ["<h2>Inspection</h2>"]
    for sheet in inspection_tables.sheets(json.loads(path.read_text())):
        heads = "".join(f"<th>{escape(head)}</th>" for head in sheet.heads)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in sheet.rows)
        note = f'<p class="soft">{escape(sheet.note)}</p>' if sheet.note else ""
        parts.append(f"<h3>{escape(sheet.title)}</h3><table><tr>{heads}</tr>{rows}</table>{note}")
    return "".join(parts)


def _pictures(run: Path) -> str:
    found = sorted(path for path in run.glob("*.png") if path.name != "curve.png")
    return "".join(f"<h2>{escape(path.stem.replace('_', ' ').capitalize())}</h2>{_embedded(path)}" for path in found)


def _videos(directory: RunDirectory) -> str:
    found = sorted(directory.videos.glob("*.mp4"))
    if not found:
        return ""
    films = []
    for path in found:
        source = escape(path.relative_to(directory.path).as_posix())
        films.append(f'<video controls loop muted width="360" src="{source}"></video>')
        films.append(f'<div><a href="{source}"><code>{source}</code></a></div>')
    return f"<h2>Videos</h2>{''.join(films)}"


def _configuration(config: Mapping[str, Any]) -> str:
    """The configuration as small tables, one for each part."""
    if not config:
        return ""
    sections = []
    for name, values in _sections(config, ""):
        rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(json.dumps(v))}</td></tr>" for k, v in values.items())
        sections.append(f"<section><h3>{escape(name or 'run')}</h3><table>{rows}</table></section>")
    body = f'<div class="config">{"".join(sections)}</div>'
    return f"<h2>Configuration</h2><details open><summary>config.json</summary>{body}</details>"


def _sections(config: Mapping[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    plain = {key: value for key, value in config.items() if not isinstance(value, dict) and key != "class"}
    if plain:
        yield name, plain
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _sections(value, f"{name}.{key}" if name else key)


def _embedded(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{data}">'


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
