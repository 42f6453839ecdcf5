"""What every test runs under: the CPU, checked shapes, no key used twice, and strict mathematics.

Shapes are checked by jaxtyping with beartype, and warnings are errors; pyproject.toml turns both on.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Before JAX is first imported: the tests compare bit for bit, which only the CPU promises.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import psutil
import pytest

jax.config.update("jax_debug_key_reuse", True)

# Compiling takes most of the tests' time, down to single operations: another worker, a worker that forgot its programs,
# and the second run need not repeat it.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

MEMORY_MB = 900
"""What a worker may take before it forgets its compiled programs: twenty of them, or so. The largest test adds less
than half as much."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test comes first, that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_kill.py")


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Forgets compiled programs once they are many: Linux ends a process that has 65,530 memory mappings, of which each
    program takes some, and a laptop one that takes all of its memory."""
    yield
    if psutil.Process().memory_info().rss > MEMORY_MB * 2**20:
        jax.clear_caches()
        gc.collect()
        # glibc keeps what was freed unless it is told that nobody wants it.
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)


@pytest.fixture(autouse=True)
def strict_mathematics(request: pytest.FixtureRequest) -> Iterator[None]:
    """In ``tests/ops`` neither ranks nor dtypes are promoted silently. Elsewhere they are: networks broadcast their
    biases over the batch, and Optax takes floats to integer powers."""
    if request.path.parent.name != "ops":
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
