"""What a driver makes of the machines that there are."""

from __future__ import annotations

import os

import pytest

from prudence.sweeps.driver import Resources, _in_words, _jobs


def test_as_many_trials_as_fit() -> None:
    """8 cores and 2 GPUs: 4 trials of 2 cores; 4 of half a GPU; 20 of a tenth, of which 8 have a core."""
    there = {"CPU": 8.0, "GPU": 2.0}
    assert _jobs(Resources(cores=2), there) == 4
    assert _jobs(Resources(gpus=0.5), there) == 4
    assert _jobs(Resources(gpus=0.1), there) == 8
    assert _jobs(Resources(jobs=3), there) == 3
    assert _jobs(Resources(jobs=9), there) == 8


def test_what_no_machine_has_is_refused() -> None:
    with pytest.raises(ValueError, match="a trial needs 1 gpus, but Ray finds 0 GPUs: give a smaller --gpus-per-trial"):
        _jobs(Resources(gpus=1), {"CPU": 8.0})
    with pytest.raises(ValueError, match="a trial needs 9 cores, but Ray finds 8 CPUs"):
        _jobs(Resources(cores=9), {"CPU": 8.0})


def test_cores_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert Resources().local_cores == 3
    assert Resources(cores=4).local_cores == 4, "one trial, which takes turns with itself"
    assert Resources(jobs=5, cores=2).local_cores == 10


def test_errors_of_ray_in_one_line() -> None:
    error = RuntimeError("The worker died.\nA long story follows.")
    assert _in_words(error) == "The worker died."
    error.cause = ValueError("no such thing")  # pyright: ignore[reportAttributeAccessIssue]
    assert _in_words(error) == "no such thing"
    assert _in_words(RuntimeError()) == "RuntimeError"
