"""Return against cost: what is drawn of which runs."""

import json

import numpy as np
import pytest

from prudence.evidence.frontier import plot_frontier
from prudence.evidence.record import record
from prudence.runs.directory import RunDirectoryError


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr("prudence.evidence.plot.save", lambda figure, path: figures.append(figure) or path)
    return figures


@pytest.fixture
def run(tmp_path):
    """Writes a run in which return rises to 20 and cost falls from 40, evaluated or not."""

    def write(name, agent="ours", *, seed=0, budget=2.0, evaluated=True, episodes=40, several=False):
        directory = tmp_path / name
        directory.mkdir()
        config = {"agent_name": agent, "env": {"task": "T"}, "agent": {"cost_limit": budget}, "seed": seed}
        (directory / "config.json").write_text(json.dumps(config))
        costs = {"cost_a": 1.0, "cost_b": 2.0} if several else {"cost": 1.0}
        lines = [
            {
                "step": 1000 * i,
                "episode/return": i / 2,
                **{f"episode/{cost}": factor * (41 - i) for cost, factor in costs.items()},
            }
            for i in range(1, episodes + 1)
        ]
        (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if evaluated:
            found = {"seed": 0, "returns": [19.0, 21.0], "costs": [[1.0], [3.0]], "budgets": [budget]}
            (directory / "evaluation.json").write_text(json.dumps(found | {"cost_names": ["cost"]}))
        return directory

    return write


def legend(figure, panel=0):
    return [text.get_text() for text in figure.axes[panel].get_legend().get_texts()]


def test_a_path_runs_from_early_to_late_and_ends_at_the_evaluation(run, drawn, tmp_path):
    plot_frontier([run("a")], tmp_path / "out.png")
    axes = drawn[0].axes[0]
    costs, returns = axes.lines[0].get_data()
    assert costs[0] > costs[-1]
    assert returns[0] < returns[-1]
    ((x, y),) = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert (x, y) == (2.0, 20.0)
    pale, full = (axes.collections[0].get_colors()[i][:3].sum() for i in (0, -1))
    assert pale > full
    assert "dots every 5k steps" in drawn[0].get_supxlabel()
    assert legend(drawn[0]) == ["ours, 1 seed"]


def test_runs_that_were_not_evaluated_have_a_path_only(run, drawn, tmp_path):
    plot_frontier([run("a", evaluated=False), run("b", seed=1, evaluated=False)], tmp_path / "out.png")
    assert legend(drawn[0]) == ["ours, 2 seeds"]
    assert "evaluation" not in drawn[0].get_supxlabel()
    assert not [line for line in drawn[0].axes[0].lines if line.get_marker() == "o"]


def test_records_and_runs_mix_and_every_budget_is_drawn(run, drawn, tmp_path):
    record([run("a")], tmp_path / "kept")
    plot_frontier([tmp_path / "kept", run("b", "theirs", budget=25.0, evaluated=False)], tmp_path / "out.png")
    assert legend(drawn[-1]) == ["ours, budget 2, 1 seed", "theirs, budget 25, 1 seed"]
    assert {" budget 2", " budget 25"} <= {text.get_text() for text in drawn[-1].axes[0].texts}


def test_every_constraint_has_a_panel(run, drawn, tmp_path):
    plot_frontier([run("a", evaluated=False, several=True)], tmp_path / "out.png")
    assert [axes.get_xlabel() for axes in drawn[0].axes] == ["a of an episode", "b of an episode"]
    first, second = (axes.lines[0].get_xdata() for axes in drawn[0].axes)
    np.testing.assert_allclose(second, 2 * first)


def test_a_single_episode_is_drawn(run, drawn, tmp_path):
    plot_frontier([run("a", evaluated=False, episodes=1)], tmp_path / "out.png")
    assert drawn[0].axes[0].texts[0].get_text() == "1k"


def test_nothing_to_draw_is_said(run, tmp_path):
    empty = run("a", evaluated=False)
    (empty / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="none of these runs has finished an episode"):
        plot_frontier([empty], tmp_path / "out.png")
    with pytest.raises(RunDirectoryError, match="neither a run"):
        plot_frontier([tmp_path / "nowhere"], tmp_path / "out.png")
