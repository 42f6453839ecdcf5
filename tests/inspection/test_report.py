"""The report shows what a run has, and does without what it lacks."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from prudence.inspection.report import write_report
from prudence.inspection.video import write_video

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Collects text and sources, and sees that every element is closed in its turn."""

    def __init__(self, page):
        HTMLParser.__init__(self)
        self.open, self.text, self.sources = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def run(tmp_path):
    lines = [{"step": 1000 * i, "episode/return": float(i), "episode/cost": 3.0} for i in range(1, 11)]
    lines.append({"step": 10000, "time/wall": 4000.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_a_bare_run_has_figures_and_a_curve(run):
    page = Checker(write_report(run).read_text())
    assert "10,000" in page.text
    assert "1 h 07 min" in page.text
    assert page.text[page.text.index("return, last 10 training episodes") - 1] == "5.50"
    assert [source[:21] for source in page.sources] == ["data:image/png;base64"]
    assert not {"Evaluation", "Videos", "Configuration"} & set(page.text)


def test_a_full_run_has_everything_and_names_are_escaped(run):
    config = {"agent_name": "<b>agent</b>", "env": {"class": "EnvConfig", "task": "T-v0"}, "agent": {"cost_limit": 2.0}}
    (run / "config.json").write_text(json.dumps(config))
    costs = [[0.0], [1.0]] * 10
    evaluation = {"returns": [4.0] * 20, "costs": costs, "cost_names": ["cost_hazards"], "budgets": [2.0]}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    write_video(np.zeros((3, 64, 64, 3), np.uint8), run / "videos" / "evaluation.mp4")
    page = Checker(write_report(run).read_text())
    text = " ".join(page.text)
    assert page.text.count("<b>agent</b>  ·  T-v0") == 2, "in the head and as the heading"
    assert re.search(r"budget 2: mean 0.5, with 95 % confidence below 0\.\d+: holds", text)
    assert "cost_limit" in page.text
    assert "EnvConfig" not in text
    assert page.sources[1:] == ["videos/evaluation.mp4", "videos/evaluation.mp4"]


def test_what_was_decided_on_the_way_stands(run):
    """Not the bound of a fixed number of episodes, which would say that the budget holds."""
    look = {"episodes": 20, "upper": 3.0}
    decision = {"status": "open", "verdict": "not decided: as it was written", "looks": [look]}
    evaluation = {"returns": [4.0] * 20, "costs": [[0.0], [1.0]] * 10, "cost_names": ["cost"], "budgets": [2.0]}
    evaluation["until_decided"] = {"confidence": 0.95, "decisions": [decision]}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    text = " ".join(Checker(write_report(run).read_text()).text)
    assert "not decided: as it was written" in text
    assert "looking after 20 episodes: a verdict is wrong in at most 5 %" in text
    assert ": holds" not in text


def test_a_report_can_lie_beside_its_run(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("elsewhere")
    evaluation = {"returns": [4.0], "costs": [[60.0]], "cost_names": ["cost"], "budgets": None}
    (out / "evaluation.json").write_text(json.dumps(evaluation))
    assert write_report(run, out) == out / "report.html"
    page = Checker((out / "report.html").read_text())
    assert {"10,000", "60.00"} <= set(page.text), "the run's figures and that evaluation"
    assert not (run / "report.html").exists()


def test_an_agent_without_budgets_has_no_verdict(run):
    evaluation = {"returns": [4.0], "costs": [[60.0]], "cost_names": ["cost"], "budgets": None}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    page = Checker(write_report(run).read_text())
    assert "60.00" in page.text
    assert "one episode" in page.text
    assert not [line for line in page.text if "confidence" in line]


def test_a_directory_without_metrics_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="prudence train"):
        write_report(tmp_path)


def test_an_inspection_is_shown_as_tables(run):
    content = {
        "correlation": {"cost": [0.5, None]},
        "mean_cost": {"predicted": {"cost": [1.0, 2.0]}, "real": {"cost": [1.0, 3.0]}},
        "entries": {"lidar/hazards": {"one": [0.91, -0.5], "mean": [0.95, 0.0], "copy": [0.7, None], "spread": 0.2}},
        "costs": {"cost": {"leads": {"1": {"mean_predicted": 0.5, "mean_real": 1.0, "slope": None}}, "sums": {}}},
        "doubts": {},
        "episodes": {"episodes": 4, "decisions": 800, "goals": 2.0, "traps": None, "events": [], "speed": None},
    }
    (run / "inspection.json").write_text(json.dumps(content))
    page = Checker(write_report(run).read_text())
    assert {".91 (.95)", "-.50 (.00)", ".70", "hazards"} <= set(page.text)
    assert page.text[page.text.index("of the decision 1 ahead") + 1 :][:3] == ["0.50", "1.00", "–"]
    assert page.text[page.text.index("costly events in 100 episodes") + 1] == "0"
    assert "Time between goals" not in page.text
