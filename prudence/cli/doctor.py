"""Whether this machine can do what Prudence does, and what to do where it cannot."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prudence.envs.base import EnvConfig, EnvError, Suite
from prudence.envs.check import Finding
from prudence.envs.registry import SUITES, make
from prudence.runs.console import text_console

DISK_GB, MEMORY_GB = 5, 4
CUDA_13_DRIVER = 580
"""The oldest driver of CUDA 13."""
LOCK = Path(__file__).parents[2] / "requirements.lock"
# In a process of its own: MuJoCo reads MUJOCO_GL once, and a broken GL library may abort the process.
_DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.5'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any(), "the picture is black"
"""


def doctor() -> list[Finding]:
    """Looks at everything that Prudence needs from the machine; takes some seconds."""
    suites = [(suite.name.lower(), lambda suite=suite: check_suite(suite)) for suite in SUITES if suite.package]
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("python", check_python),
        ("jax", check_jax),
        ("rendering", check_rendering),
        *suites,
        ("video", check_video),
        ("disk", check_disk),
        ("memory", check_memory),
        ("versions", check_versions),
    ]
    return [_guarded(name, check) for name, check in checks]


def print_checks(checks: Sequence[Finding], console: Console | None = None) -> int:
    """Prints the checks as a table, and returns the exit code: 1 where something that is needed failed."""
    colours = {"ok": "green", "warning": "yellow", "failed": "bold red"}
    table = Table("", "", "", box=None, show_header=False, pad_edge=False)
    for check in checks:
        detail = check.detail + (f"\n→ {check.remedy}" if check.remedy else "")
        table.add_row(check.name, Text(check.status, style=colours[check.status]), detail)
    (console or text_console()).print(table)
    return int(any(check.status == "failed" for check in checks))


def check_python() -> Finding:
    """Which Python this is; pip refuses one that is too old."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Finding("python", "ok", found)


def check_jax() -> Finding:
    """JAX computes, and on the GPU where there is one."""
    import jax
    import jax.numpy as jnp

    total = float(jnp.arange(4.0).sum())
    assert total == 6, f"0 + 1 + 2 + 3 came out as {total}"
    devices = jax.devices()
    kinds = [f"{count} × {kind}" for kind, count in Counter(device.device_kind for device in devices).items()]
    found = f"{jax.__version__}: {', '.join(kinds)} ({jax.default_backend()})"
    present = nvidia_gpus()
    if jax.default_backend() == "cpu" and present:
        reason, remedy = why_unused(present[0].driver)
        names = ", ".join(gpu.name for gpu in present)
        return Finding("jax", "warning", f"{found}. This machine has {names}, which is not used: {reason}", remedy)
    return Finding("jax", "ok", found)


class Gpu(NamedTuple):
    """A graphics card, and the version of its driver."""

    name: str
    driver: str


def nvidia_gpus() -> list[Gpu]:
    """The NVIDIA GPUs that the driver's own program (``nvidia-smi``) sees; none where it is missing or fails."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        seen = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [Gpu(*(word.strip() for word in line.split(",", 1))) for line in seen.splitlines() if "," in line]


def why_unused(driver: str) -> tuple[str, str]:
    """Why JAX does not use an NVIDIA GPU that is there, and what to do about it.

    Args:
        driver: the version of the GPU's driver, as 580.65.06.
    """
    import jax

    for name, hides in (
        ("JAX_PLATFORMS", lambda value: value and not {"cuda", "gpu"} & set(value.split(","))),
        ("CUDA_VISIBLE_DEVICES", lambda value: value in ("", "-1")),
    ):
        if name in os.environ and hides(os.environ[name]):
            return f"{name} is {os.environ[name]!r}", f"unset {name}"
    cuda = 13 if int(driver.split(".")[0]) >= CUDA_13_DRIVER else 12
    install = f'pip install "jax[cuda{cuda}]=={jax.__version__}"'
    if cuda == 13:
        install = f'pip install "prudence-rl[cuda]", or {install}'
    plugins = {name: _version(name) for name in ("jax-cuda13-plugin", "jax-cuda12-plugin")}
    installed = [f"{name} {version}" for name, version in plugins.items() if version]
    if not installed:
        return "JAX's part for it is not installed", install
    if jax.__version__ not in plugins.values():
        return f"{' and '.join(installed)} and jax {jax.__version__} are of different versions", install
    try:
        jax.devices("cuda")
    except RuntimeError as error:
        return f"{_first_line(error)} (driver {driver}, {' and '.join(installed)})", install
    return "another platform comes first", "unset JAX_PLATFORMS"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_rendering() -> Finding:
    """A frame can be drawn without a display; needed for image observations and videos only."""
    chosen = os.environ.get("MUJOCO_GL")
    failures = []
    for backend in (chosen,) if chosen else ("egl", "osmesa"):
        error = draw_a_frame(backend)
        if error is None:
            return Finding("rendering", "ok", f"{backend} draws a frame")
        failures.append(f"{backend}: {error}")
    remedy = "sudo apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri libosmesa6"
    if chosen:
        remedy = f"Unset MUJOCO_GL (it is {chosen}), or {remedy}"
    return Finding("rendering", "warning", "; ".join(failures), remedy)


def draw_a_frame(backend: str) -> str | None:
    """Draws with MuJoCo through a GL backend (``egl``, ``osmesa``, ``glfw``); what went wrong, or None."""
    # MuJoCo sets PYOPENGL_PLATFORM to suit, and complains where it says otherwise.
    environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    if backend == "glfw":
        environment.pop("PYOPENGL_PLATFORM")
    command = [sys.executable, "-c", _DRAW]
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "no picture within a minute"
    if result.returncode == 0:
        return None
    lines = [line for line in result.stderr.splitlines() if line and not line.startswith((" ", "Exception ignored"))]
    return lines[-1] if lines else f"ended with {result.returncode}"


def check_suite(suite: Suite) -> Finding:
    """What a suite needs is installed, and a task of it steps."""
    name = suite.name.lower()
    try:
        found = f"{suite.package} {metadata.version(suite.package)}"
    except metadata.PackageNotFoundError:
        missing = f"{suite.package} is not installed; other environments work without it"
        return Finding(name, "warning", missing, suite.install)
    try:
        env = make(EnvConfig(suite.example))
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
    except (EnvError, ImportError) as error:
        return Finding(name, "failed", f"{found} does not load: {_first_line(error)}", suite.install)
    return Finding(name, "ok", f"{found}: {suite.example} resets and steps")


def check_video() -> Finding:
    """Videos can be encoded."""
    import av

    if "libx264" not in av.codecs_available:
        return Finding("video", "warning", f"PyAV {av.__version__} lacks x264", "pip install --force-reinstall av")
    return Finding("video", "ok", f"PyAV {av.__version__} with x264")


def check_disk() -> Finding:
    """Room for runs in the current directory."""
    free = shutil.disk_usage(".").free / 1e9
    found = f"{free:.1f} GB free in {Path.cwd()}"
    if free < DISK_GB:
        remedy = f"Free {DISK_GB} GB, or give --out a directory on another disk: replay and checkpoints lie there"
        return Finding("disk", "warning", found, remedy)
    return Finding("disk", "ok", found)


def check_memory() -> Finding:
    """Room for compilation and for the replay's pages."""
    free, total = psutil.virtual_memory().available / 1e9, psutil.virtual_memory().total / 1e9
    found = f"{free:.1f} of {total:.1f} GB available"
    if free < MEMORY_GB:
        return Finding(
            "memory", "warning", found, f"Close other programs: training on images needs about {MEMORY_GB} GB"
        )
    return Finding("memory", "ok", found)


def check_versions(lock: Path = LOCK) -> Finding:
    """The installed versions are those that were tested, where the lock file is at hand."""
    if not lock.exists():
        return Finding("versions", "ok", f"prudence-rl {metadata.version('prudence-rl')}, installed as a package")
    pinned = [line.split("==") for line in lock.read_text().splitlines() if "==" in line and not line.startswith("#")]
    installed = {dist.metadata["Name"].lower().replace("_", "-"): dist.version for dist in metadata.distributions()}
    differing = [f"{n} {installed.get(n, 'missing')} (not {v})" for n, v in pinned if installed.get(n) != v]
    if differing:
        shown = ", ".join(differing[:6]) + (f" and {len(differing) - 6} more" if len(differing) > 6 else "")
        return Finding("versions", "warning", shown, f"make setup, or pip install --no-deps -r {lock.name}")
    return Finding("versions", "ok", f"all {len(pinned)} as in {lock.name}")


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # A broken installation fails in any way, and the other checks should still be made.
        return Finding(name, "failed", f"{type(error).__name__}: {_first_line(error)}", "Reinstall: make clean setup")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
