"""config.json returns what was written, and refuses what was not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from prudence.runs.config import ConfigError, as_kept, differences, read_config, write_config


@dataclass(frozen=True)
class Augmented:
    rate: float = 1e-5


@dataclass(frozen=True)
class Pid:
    gains: tuple[float, float, float] = (0.1, 0.01, 0.0)


@dataclass(frozen=True)
class Inner:
    kind: Literal["discrete", "gaussian"] = "discrete"
    widths: tuple[int, ...] = (32, 32)
    constraint: Augmented | Pid | None = Augmented()


@dataclass(frozen=True)
class Outer:
    task: str
    inner: Inner = Inner()
    directory: Path = Path("runs/x")
    limit: float = float("inf")
    steps: int | float = 5
    costs: Literal["total", "separate"] | tuple[str, ...] = "total"
    kwargs: tuple[tuple[str, Any], ...] = ()
    routes: dict[str, str] = field(default_factory=dict)


CONFIG = Outer(
    task="Goal",
    inner=Inner(kind="gaussian", widths=(), constraint=Pid((1.0, 2.0, 3.0))),
    directory=Path("runs/y"),
    costs=("hazards", "vases"),
    kwargs=(("size", (1, 2)), ("on", True)),
    routes={"image": "encoder"},
)


@pytest.mark.parametrize("config", [CONFIG, Outer("Push"), Outer("Run", Inner(constraint=None), limit=2.0)])
def test_a_configuration_returns_as_written(tmp_path: Path, config: Outer) -> None:
    path = tmp_path / "config.json"
    write_config(path, config)
    loaded = read_config(path, Outer)
    assert loaded == config
    assert type(loaded.steps) is int
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


def changed(tmp_path: Path, change: Any) -> Path:
    path = tmp_path / "config.json"
    write_config(path, CONFIG)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(colour=1), r"config \(Outer\) has the unknown \['colour'\]"),
        (lambda c: c.pop("task"), r"config \(Outer\) lacks \['task'\]"),
        (lambda c: c["inner"].update(kind="poisson"), r"config\.inner\.kind is 'poisson' instead of"),
        (lambda c: c["inner"].update(widths=[1, 2.5]), r"config\.inner\.widths\[1\] is 2\.5 instead of int"),
        (lambda c: c["inner"].update(widths=[True]), r"config\.inner\.widths\[0\] is True instead of int"),
        (lambda c: c["inner"]["constraint"].update(gains=[1.0]), r"constraint\.gains has 1 items instead of 3"),
        (
            lambda c: c["inner"]["constraint"].update({"class": "Other"}),
            r"constraint is a Other instead of a Augmented",
        ),
        (lambda c: c.update(limit="high"), r"config\.limit is 'high' instead of float"),
        (lambda c: c.update(task=None), r"config\.task is None instead of str"),
        (lambda c: c.update({"class": "Inner"}), r"config is a Inner instead of a Outer"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(changed(tmp_path, change), Outer)


def test_an_option_newer_than_the_file_takes_its_default(tmp_path: Path) -> None:
    loaded = read_config(changed(tmp_path, lambda c: c["inner"].pop("widths")), Outer)
    assert loaded.inner == Inner(kind="gaussian", widths=(32, 32), constraint=Pid((1.0, 2.0, 3.0)))


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        read_config(path, Outer)


@dataclass(frozen=True)
class Choosy:
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise LookupError(f"size={self.size} must be at least 1.")


def test_what_a_configuration_refuses_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"class": "Choosy", "size": 0}')
    with pytest.raises(ConfigError, match=r"config\.json: config: size=0 must be at least 1\. Another version"):
        read_config(path, Choosy)


def test_what_json_cannot_hold_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.kwargs\[0\]\[1\] is a set"):
        write_config(tmp_path / "config.json", Outer("Goal", kwargs=(("x", {1}),)))
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Rate(Augmented):
    """Derived from what the field declares."""

    decay: float = 0.5


def test_a_derived_class_returns_as_itself(tmp_path: Path) -> None:
    write_config(tmp_path / "config.json", Inner(constraint=Rate(1e-3, 0.25)))
    assert read_config(tmp_path / "config.json", Inner).constraint == Rate(1e-3, 0.25)


def test_a_file_of_another_version_says_which_can_go_on_with_it(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda c: c.update(colour=1))
    with pytest.raises(ConfigError, match=r"with that version \(its commit is in provenance\.json.*\), or train anew"):
        read_config(path, Outer)
    (tmp_path / "provenance.json").write_text(json.dumps([{"commit": "0ld"}, {"commit": "1abc+"}]))
    with pytest.raises(ConfigError, match=r"unknown \['colour'\]\. .* with that version \(git checkout 1abc\)"):
        read_config(path, Outer)


def test_what_is_kept_is_what_would_be_read() -> None:
    @dataclass(frozen=True)
    class Numbers:
        steps: int = 1
        rate: float = 1.0

    kept = as_kept(Numbers(80.0, np.float32(0.5)))  # pyright: ignore[reportArgumentType]
    assert (type(kept.steps), kept.steps, type(kept.rate), kept.rate) == (int, 80, float, 0.5)
    with pytest.raises(ConfigError, match=r"config\.steps is 0\.5 instead of int"):
        as_kept(Numbers(0.5))  # pyright: ignore[reportArgumentType]


def test_differences_are_a_few_lines() -> None:
    here, there = Outer("Goal"), Outer("Goal", Inner("gaussian", constraint=Pid()), limit=1.0)
    assert differences(there, here).splitlines() == [
        "inner.kind: gaussian there, discrete now",
        "  inner.constraint: Pid there, Augmented now",
        "  limit: 1.0 there, inf now",
    ]
    assert len(differences(Outer("x" * 500), here)) < 100
