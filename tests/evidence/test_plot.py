"""Learning curves from run directories, whole and wanting."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from prudence.evidence.plot import plot_run, plot_runs
from prudence.runs.curves import load_series


@pytest.fixture
def run(tmp_path):
    """Writes a run directory of records, ``(step, metrics)`` each."""

    def write(name, records, config=None):
        directory = tmp_path / name
        directory.mkdir()
        lines = [json.dumps({"step": step, **metrics}) for step, metrics in records]
        (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        if config is not None:
            (directory / "config.json").write_text(json.dumps(config))
        return directory

    return write


def episodes(count, cost=3.0):
    return [(1000 * i, {"episode/return": float(i), "episode/cost": cost}) for i in range(1, count + 1)]


def height(picture):
    with Image.open(picture) as image:
        return image.height


def test_metrics_are_read_in_order_without_what_is_no_number(run):
    directory = run("run", [(2, {"a": 4.0, "b": math.nan}), (1, {"a": 2}), (3, {"b": math.inf})])
    with open(directory / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "a": 1')  # the line that a kill tore
    metrics = load_series(directory)
    assert list(metrics) == ["a"]
    np.testing.assert_array_equal(metrics["a"].steps, [1, 2])
    np.testing.assert_array_equal(metrics["a"].values, [2, 4])


def test_a_run_without_metrics_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="prudence train"):
        plot_run(tmp_path)


def test_a_run_without_episodes_is_refused(run):
    with pytest.raises(ValueError, match="no episode has finished"):
        plot_run(run("run", [(1, {"loss/model": 1.0})]))


def test_panels_are_those_that_the_metrics_have(run):
    returns = run("returns", [(1000, {"episode/return": 1.0})])
    both = run("both", episodes(30), {"agent": {"cost_limit": 2.0}})
    priced = run("priced", [*episodes(30), (500, {"constraint/multiplier": 0.1})])
    idle = run("idle", [*episodes(30), (500, {"constraint/multiplier": 0.0})])
    heights = [height(plot_run(directory)) for directory in (returns, both, priced)]
    assert heights == sorted(set(heights)), "each has a panel more"
    assert height(plot_run(idle)) == heights[1], "a multiplier that never moved says nothing"


def test_every_constraint_has_its_line_and_budget(run, monkeypatch):
    drawn = []
    monkeypatch.setattr("prudence.evidence.plot.save", lambda figure, path: drawn.append(figure) or path)
    records = [(1000 * i, {"episode/cost_hazards": 50.0 * i, "episode/cost_vases": 1.0}) for i in range(1, 20)]
    plot_run(run("run", records, {"agent_name": "a", "env": {"task": "T-v0"}, "agent": {"cost_limit": [2.0, 5.0]}}))
    (figure,) = drawn
    labels = {line.get_label() for line in figure.axes[0].lines if not line.get_label().startswith("_")}
    assert labels == {"hazards", "vases", "budget 2 hazards", "budget 5 vases"}
    assert figure.axes[0].get_yscale() == "symlog", "a cost of 950 would hide a budget of 2"
    assert figure.get_suptitle() == "a  ·  T-v0"


def test_comparison_ends_with_the_shortest_seed(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("prudence.evidence.plot.save", lambda figure, path: drawn.append(figure) or path)
    runs = {"ours": [run("a", episodes(10, cost=2.0)), run("b", episodes(20, cost=6.0))], "none": []}
    plot_runs(runs, tmp_path / "out.png")
    returns, costs = drawn[0].axes
    (line,) = costs.lines
    assert line.get_label() == "ours, 2 seeds"
    assert line.get_xdata()[[0, -1]].tolist() == [1000, 10000]
    np.testing.assert_allclose(line.get_ydata(), 4.0)
    assert costs.collections[0].get_datalim(costs.transData).intervaly.tolist() == [2.0, 6.0]
    assert len(returns.lines) == 1


def test_one_episode_is_a_dot_and_a_pause_is_a_gap(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("prudence.evidence.plot.save", lambda figure, path: drawn.append(figure) or path)
    plot_run(run("one", episodes(1)))
    (line, dot) = drawn[0].axes[0].lines
    assert (line.get_xdata().tolist(), dot.get_ydata().tolist()) == ([1000], [1])
    early, late = episodes(10), [(50_000 + step, metrics) for step, metrics in episodes(10)]
    plot_run(run("paused", [*early, *late]))
    line = drawn[1].axes[0].lines[0]
    assert np.isnan(line.get_ydata()[(line.get_xdata() > 15_000) & (line.get_xdata() < 45_000)]).all()


def test_the_legend_and_the_caption_say_what_is_averaged(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("prudence.evidence.plot.save", lambda figure, path: drawn.append(figure) or path)
    plot_run(run("a", episodes(40)))
    labels = drawn[0].axes[0].get_legend_handles_labels()[1]
    assert labels == ["mean of the training episodes in 2k steps", "10 to 90 % of them"]
    plot_runs({"ours": [run("b", episodes(40)), run("c", episodes(400))]}, tmp_path / "out.png")
    assert "in 20k steps, over seeds" in drawn[1].get_supxlabel()
    plot_runs({"ours": [run("d", episodes(40))]}, tmp_path / "out.png")
    assert drawn[2].get_supxlabel() == "lines: means of the training episodes in 2k steps"


def test_comparison_is_written(run, tmp_path):
    out = plot_runs({"ours": [run("a", episodes(10), {"agent": {"cost_limit": 2.0}})]}, tmp_path / "deep" / "out.png")
    assert out == tmp_path / "deep" / "out.png"
    assert height(out) > 300
