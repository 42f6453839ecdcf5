"""Batches read and moved to the device while the environments step."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import jax

from prudence.data.replay import Replay
from prudence.types import Batch


class Prefetcher:
    """Reads batches in a background thread, without any influence on what is sampled.

    The windows are chosen in ``submit``, in the caller's thread; only reading them and the transfer happen in the
    background. So the order of choosing and of ``Replay.add`` is the order of the caller's program, and a resumed
    run samples what an uninterrupted one samples. A checkpoint is to be taken while nothing is pending (between
    ``result`` and the next ``submit``): the sampler has moved on for a batch that is still pending.
    """

    def __init__(self, replay: Replay, batch_size: int, length: int):
        self._replay = replay
        self._batch_size = batch_size
        self._length = length
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._pending: Future[Batch] | None = None

    @property
    def pending(self) -> bool:
        """Whether a batch was asked for and not taken yet."""
        return self._pending is not None

    def submit(self, updates: int) -> None:
        """Chooses ``[U, B]`` windows, U = ``updates``, and starts to read them.

        Raises:
            RuntimeError: the batch asked for before was not taken yet.
            ValueError: the replay holds no window of this length.
        """
        if self._pending is not None:
            raise RuntimeError("a batch is pending already: take it with result() before the next submit()")
        windows = self._replay.draw(self._batch_size, self._length, updates)
        self._pending = self._thread.submit(lambda: jax.device_put(self._replay.gather(windows)))

    def result(self) -> Batch:
        """The batch asked for, ``[U, B, T, ...]`` on the device; waits for it where it must.

        Raises:
            RuntimeError: nothing was asked for.
        """
        if self._pending is None:
            raise RuntimeError("no batch is pending: ask for one with submit()")
        pending, self._pending = self._pending, None
        return pending.result()

    def close(self) -> None:
        """Ends the thread; a pending batch is dropped."""
        self._pending = None
        self._thread.shutdown(wait=True, cancel_futures=True)
