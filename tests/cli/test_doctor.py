"""The doctor finds what is there, and says what to do about what is not."""

import io
from importlib import metadata

import jax
import pytest
from rich.console import Console

from prudence.cli import doctor as module
from prudence.cli.doctor import LOCK, check_jax, check_suite, check_versions, draw_a_frame, print_checks
from prudence.envs.check import Finding
from prudence.envs.registry import SUITES

NEEDING = [suite for suite in SUITES if suite.package]


def printed(checks):
    out = io.StringIO()
    code = print_checks(checks, Console(file=out, width=100))
    return code, out.getvalue()


def test_only_a_failure_makes_the_exit_code_1():
    assert printed([Finding("a", "ok", "fine"), Finding("b", "warning", "half", "mend it")])[0] == 0
    code, text = printed([Finding("a", "ok", "fine"), Finding("b", "failed", "broken", "mend it")])
    assert code == 1
    assert [line.split() for line in text.splitlines()] == [
        ["a", "ok", "fine"],
        ["b", "failed", "broken"],
        ["→", "mend", "it"],
    ]


def test_a_check_that_raises_is_a_failed_check(monkeypatch):
    def broken():
        raise ImportError("libcuda is missing\nand more")

    monkeypatch.setattr(module, "check_jax", broken)
    monkeypatch.setattr(module, "check_rendering", lambda: Finding("rendering", "ok", ""))
    monkeypatch.setattr(module, "check_suite", lambda suite: Finding(suite.name.lower(), "ok", ""))
    checks = {check.name: check for check in module.doctor()}
    assert (checks["jax"].status, checks["jax"].detail) == ("failed", "ImportError: libcuda is missing")
    assert checks["python"].status == checks["video"].status == "ok"


H100 = module.Gpu("NVIDIA H100", "580.65.06")


def test_an_unused_gpu_is_noticed(monkeypatch):
    monkeypatch.setattr(module, "nvidia_gpus", list)
    assert check_jax().status == "ok"
    monkeypatch.setattr(module, "nvidia_gpus", lambda: [H100])
    check = check_jax()
    assert check.status == "warning"
    assert check.detail.endswith("This machine has NVIDIA H100, which is not used: JAX_PLATFORMS is 'cpu'")
    assert check.remedy == "unset JAX_PLATFORMS"


def test_gpus_are_those_that_the_driver_names(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.nvidia_gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 580.65.06'\necho 'NVIDIA H100, 580.65.06'\n")
    program.chmod(0o755)
    assert module.nvidia_gpus() == [H100, H100]
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 9\n")
    assert module.nvidia_gpus() == []


@pytest.mark.parametrize(
    ("driver", "plugins", "reason", "remedy"),
    [
        (
            "580.65.06",
            {},
            "JAX's part for it is not installed",
            'pip install "prudence-rl[cuda]", or pip install "jax[cuda13]',
        ),
        ("535.54.03", {}, "JAX's part for it is not installed", 'pip install "jax[cuda12]'),
        (
            "580.65.06",
            {"jax-cuda13-plugin": "0.0.1"},
            "jax-cuda13-plugin 0.0.1 and jax",
            'pip install "prudence-rl[cuda]"',
        ),
        ("580.65.06", {"jax-cuda13-plugin": jax.__version__}, "(driver 580.65.06, jax-cuda13-plugin", "pip install"),
    ],
)
def test_the_reason_why_a_gpu_is_not_used(monkeypatch, driver, plugins, reason, remedy):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(module, "_version", plugins.get)
    found = module.why_unused(driver)
    assert reason in found[0]
    assert found[1].startswith(remedy)


def test_a_variable_may_hide_a_gpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert module.why_unused(H100.driver) == ("CUDA_VISIBLE_DEVICES is '-1'", "unset CUDA_VISIBLE_DEVICES")


def test_versions_are_held_against_the_lock(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# comment ==\nnumpy=={metadata.version('numpy')}\n")
    assert check_versions(lock).status == "ok"
    lock.write_text("numpy==0.1\nno-such-thing==2\n")
    check = check_versions(lock)
    assert check.status == "warning"
    assert check.detail == f"numpy {metadata.version('numpy')} (not 0.1), no-such-thing missing (not 2)"
    assert check_versions(tmp_path / "absent").detail.endswith("installed as a package")


@pytest.mark.parametrize("suite", NEEDING, ids=lambda suite: suite.name)
def test_suites_are_optional(suite, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.metadata, "version", absent)
    check = check_suite(suite)
    assert check.status == "warning"
    assert check.detail == f"{suite.package} is not installed; other environments work without it"
    assert check.remedy == suite.install


def test_little_room_is_a_warning(monkeypatch):
    monkeypatch.setattr(module, "DISK_GB", 1e9)
    monkeypatch.setattr(module, "MEMORY_GB", 1e9)
    assert [module.check_disk().status, module.check_memory().status] == ["warning", "warning"]


@pytest.mark.slow
@pytest.mark.parametrize("suite", NEEDING, ids=lambda suite: suite.name)
def test_suites_load(suite):
    check = check_suite(suite)
    if check.status == "warning" and f"\n{suite.package}==" not in LOCK.read_text():
        pytest.skip(f"{suite.package} is an extra outside of the lock, and it is not installed")
    assert check.status == "ok", check.detail


def test_rendering_is_tried_and_its_failure_told(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert "invalid value" in (draw_a_frame("nonsense") or "")
    check = module.check_rendering()
    assert check.status == "warning"
    assert check.remedy.startswith("Unset MUJOCO_GL (it is nonsense)")
