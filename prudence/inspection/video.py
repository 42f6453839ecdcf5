"""Videos of episodes, and images that compare predicted with real frames."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

SMALLEST_SIDE = 256
PIXELS_PER_INCH = 64
_GAP = 2
_SEEN, _IMAGINED = (130, 130, 130), (222, 143, 5)


def write_video(frames: Iterable[np.ndarray], path: Path | str, fps: float = 30) -> Path:
    """Writes an mp4 video (H.264, 4:2:0), which browsers and players can show.

    Small images are enlarged by a whole factor, without smoothing, until their shorter side has at least 256 pixels.
    Images of several cameras (3 channels each), or several grey ones (1 channel each), are placed side by side.

    Args:
        frames: images ``uint8 [height, width, channels]``. A generator is consumed frame by frame.

    Returns:
        The path of the video.

    Raises:
        ValueError: there are no frames.
    """
    pictures = (_enlarge(_side_by_side(frame[None]))[0] for frame in frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError("there are no frames to write")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=round(fps), options={"crf": "18"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in chain([first], pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
    return path


def open_loop_picture(
    truth: UInt8[np.ndarray, "T height width channels"],
    prediction: Float[np.ndarray, "*predicted"],
    context: int,
    path: Path | str,
    columns: int = 12,
) -> Path:
    """Writes a PNG with three rows: real frames, predicted frames, and the error.

    The model saw the first ``context`` frames and reconstructs them. It imagined the others, which have an orange
    border. The columns are the last three frames of the context and then frames evenly spread over the imagined ones.
    The error is the absolute difference, averaged over colours.

    Args:
        prediction: predicted frames in [0, 1].

    Returns:
        The path of the PNG.

    Raises:
        ValueError: the shapes differ, or ``context`` leaves no frame to see or no frame to imagine.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape}, prediction {prediction.shape}: their shapes must be equal")
    if not 0 < context < len(truth):
        raise ValueError(f"context is {context}: of {len(truth)} frames it must leave some to see and some to imagine")
    steps = open_loop_columns(len(truth), context, columns)
    seen = _side_by_side(truth[steps])
    said = _side_by_side((255 * np.clip(prediction[steps], 0, 1)).round().astype(np.uint8))
    error = np.abs(seen.astype(np.int16) - said).mean(axis=-1, keepdims=True)
    rows = [seen, said, np.broadcast_to(error, seen.shape).astype(np.uint8)]
    strips = [
        np.concatenate([_frame(f, bool(s >= context)) for f, s in zip(row, steps, strict=True)], axis=1) for row in rows
    ]
    return _save_labelled(np.concatenate(strips, axis=0), steps - context + 1, len(rows), Path(path))


def open_loop_columns(length: int, context: int, columns: int) -> np.ndarray:
    """Indices of the frames to show: up to three of the context, then evenly spread imagined ones."""
    before = np.arange(max(0, context - 3), context)
    after = np.linspace(context, length - 1, min(columns - len(before), length - context)).round().astype(int)
    return np.concatenate([before, after])


def _side_by_side(frames: UInt8[np.ndarray, "T height width channels"]) -> UInt8[np.ndarray, "T height wide 3"]:
    """Three channels are a picture in colour. If there are others, each is a picture in grey."""
    colours = frames if frames.shape[-1] % 3 == 0 else frames.repeat(3, axis=-1)
    return np.concatenate(np.split(colours, colours.shape[-1] // 3, axis=-1), axis=2)


def _enlarge(frames: UInt8[np.ndarray, "T height width 3"]) -> UInt8[np.ndarray, "T tall wide 3"]:
    factor = -(-SMALLEST_SIDE // min(frames.shape[1:3]))
    frames = frames.repeat(factor, axis=1).repeat(factor, axis=2) if factor > 1 else frames
    # 4:2:0 halves the resolution of colours, so sides must be even.
    return np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")


def _frame(picture: UInt8[np.ndarray, "height width 3"], imagined: bool) -> UInt8[np.ndarray, "tall wide 3"]:
    height, width, _ = picture.shape
    framed = np.empty((height + 2 * _GAP, width + 2 * _GAP, 3), np.uint8)
    framed[:] = _IMAGINED if imagined else _SEEN
    framed[_GAP:-_GAP, _GAP:-_GAP] = picture
    return framed


def _save_labelled(strip: np.ndarray, ahead: np.ndarray, rows: int, path: Path) -> Path:
    """Writes the strip with named rows. Columns are numbered in steps after the last frame that the model saw."""
    height, width, _ = strip.shape
    figure = Figure(figsize=(width / PIXELS_PER_INCH + 0.9, height / PIXELS_PER_INCH + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(strip, interpolation="nearest")
    axes.set_yticks((np.arange(rows) + 0.5) * height / rows, ["truth", "model", "error"])
    axes.set_xticks((np.arange(len(ahead)) + 0.5) * width / len(ahead), [f"{n:+d}" if n > 0 else f"{n}" for n in ahead])
    axes.set_xlabel("steps ahead of the last frame seen (orange: imagined)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=2 * PIXELS_PER_INCH)
    return path
