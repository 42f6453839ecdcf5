"""Films and open-loop pictures, decoded again."""

import av
import numpy as np
import pytest
from PIL import Image

from prudence.inspection.video import open_loop_columns, open_loop_picture, write_video


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_video_holds_its_frames_enlarged(tmp_path):
    levels = np.array([20, 120, 220], np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (3, 64, 64, 3)).copy()
    frames[:, :, 32:] = 0
    film = decode(write_video(frames, tmp_path / "deep" / "film.mp4"))
    assert film.shape == (3, 256, 256, 3)
    np.testing.assert_allclose(film[:, :, :120].mean(axis=(1, 2, 3)), levels, atol=4)
    np.testing.assert_allclose(film[:, :, 136:].mean(), 0, atol=4)


def test_cameras_stand_side_by_side_and_odd_sides_are_padded(tmp_path):
    frames = np.zeros((2, 301, 257, 6), np.uint8)
    frames[..., :3] = 255
    film = decode(write_video(frames, tmp_path / "film.mp4"))
    assert film.shape == (2, 302, 514, 3)
    assert film[:, :, :250].mean() > 250
    assert film[:, :, 264:].mean() < 5


def test_no_frames_make_no_video(tmp_path):
    with pytest.raises(ValueError, match="no frames"):
        write_video(np.zeros((0, 64, 64, 3), np.uint8), tmp_path / "film.mp4")


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_pictures_stand_side_by_side(tmp_path, channels):
    frames = np.broadcast_to(np.linspace(40, 200, channels).astype(np.uint8), (2, 256, 256, channels))
    film = decode(write_video(frames, tmp_path / "film.mp4"))
    assert film.shape == (2, 256, 256 * channels, 3)
    for channel in range(channels):
        np.testing.assert_allclose(
            film[:, 20:-20, 256 * channel + 20 : 256 * channel + 236], frames[0, 0, 0, channel], atol=4
        )


def test_open_loop_columns_by_hand():
    # 25 seen (0 to 24), 45 imagined (25 to 69): three of the context, then nine, evenly.
    assert open_loop_columns(70, 25, 12).tolist() == [22, 23, 24, 25, 30, 36, 42, 47, 52, 58, 64, 69]
    assert open_loop_columns(4, 1, 12).tolist() == [0, 1, 2, 3]


def test_open_loop_picture_shows_truth_prediction_and_error(tmp_path):
    truth = np.zeros((6, 64, 64, 6), np.uint8)
    truth[..., 0] = 255  # the first camera sees red, the second nothing
    prediction = truth / np.float32(255)
    prediction[4:] = 0.0
    path = open_loop_picture(truth, prediction, 3, tmp_path / "open_loop.png")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red = (pixels == [255, 0, 0]).all(axis=-1).sum()
    grey = (pixels == 85).all(axis=-1).sum()  # an error of 255 in one colour of three
    assert red / grey == pytest.approx((6 + 4) / 2, rel=0.1), "red: 6 true and 4 predicted; error: 2"


def test_open_loop_picture_refuses_what_does_not_match(tmp_path):
    truth, prediction = np.zeros((6, 8, 8, 3), np.uint8), np.zeros((5, 8, 8, 3), np.float32)
    with pytest.raises(ValueError, match="shapes must be equal"):
        open_loop_picture(truth, prediction, 3, tmp_path / "x.png")
    with pytest.raises(ValueError, match="context is 6"):
        open_loop_picture(truth, np.zeros((6, 8, 8, 3), np.float32), 6, tmp_path / "x.png")
