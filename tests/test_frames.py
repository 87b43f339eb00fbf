"""Frames as cameras have them: encodings, rows apart, other sizes; refused in one line that names both forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeseg import frames
from edgeseg.errors import InputError

RNG = np.random.default_rng(5)
SIZE = (48, 64)


@pytest.fixture(params=["opencv", "numpy"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With OpenCV, and as where it is not installed."""
    if request.param == "numpy":
        monkeypatch.setattr(frames, "_opencv", lambda: None)
    else:
        pytest.importorskip("cv2")
    return str(request.param)


def noise(encoding: str, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, frames.ENCODINGS[encoding].shape(*size), np.uint8)


@pytest.mark.usefixtures("either")
def test_channels_go_where_they_belong() -> None:
    rgb = noise("rgb8")
    alpha = noise("mono8")[..., None]
    for encoding, frame in (
        ("rgb8", rgb),
        ("bgr8", rgb[..., ::-1]),
        ("rgba8", np.concatenate([rgb, alpha], 2)),
        ("bgra8", np.concatenate([rgb[..., ::-1], alpha], 2)),
    ):
        assert (frames.to_rgb(frame, encoding) == rgb).all()
    mono = noise("mono8")
    assert (frames.to_rgb(mono, "mono8") == mono[..., None]).all()


def in_yuv(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """BT.601, limited range, from its definition: Y' of 0.299 R 0.587 G 0.114 B, and the scaled differences."""
    r, g, b = (rgb[..., i] / 255 for i in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return np.stack([16 + 219 * y, 128 + 224 * (b - y) / 1.772, 128 + 224 * (r - y) / 1.402], -1)


@pytest.mark.usefixtures("either")
def test_yuv_gives_the_colours_it_was_made_of() -> None:
    colours = RNG.integers(0, 256, (SIZE[0] // 2, SIZE[1] // 2, 3), np.uint8)
    rgb = colours.repeat(2, 0).repeat(2, 1)  # chroma has half the resolution
    y, u, v = np.moveaxis(np.rint(in_yuv(rgb)).astype(np.uint8), -1, 0)
    nv12 = np.concatenate([y, np.stack([u, v], -1)[::2, ::2].reshape(SIZE[0] // 2, SIZE[1])])
    yuyv = np.stack([y, np.where(np.arange(SIZE[1]) % 2, v, u)], -1)
    for encoding, frame in (("nv12", nv12), ("yuyv", yuyv)):
        assert np.abs(frames.to_rgb(frame, encoding).astype(int) - rgb).max() <= 3


@pytest.mark.parametrize("encoding", frames.ENCODINGS)
@pytest.mark.parametrize("size", [(31, 50), (96, 128), SIZE])
def test_opencv_and_numpy_agree(encoding: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    frame = noise(encoding)
    first = frames.to_rgb(frame, encoding, size)
    monkeypatch.setattr(frames, "_opencv", lambda: None)
    assert first.shape == (*size, 3)
    assert np.abs(first.astype(int) - frames.to_rgb(frame, encoding, size)).max() <= 2


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("encoding", frames.ENCODINGS)
def test_rows_may_lie_apart(encoding: str) -> None:
    whole = noise(encoding)
    padded = np.zeros((whole.shape[0], whole.shape[1] + 6, *whole.shape[2:]), np.uint8)
    padded[:, : whole.shape[1]] = whole
    apart = padded[:, : whole.shape[1]]
    assert not apart.flags.c_contiguous
    for size in (None, (20, 30)):
        want = frames.to_rgb(whole, encoding, size)
        assert (frames.to_rgb(apart, encoding, size) == want).all()
        assert (frames.to_rgb(np.flip(whole.copy()[::-1], 0), encoding, size) == want).all()


def test_rgb_of_the_right_size_is_the_cameras_own_memory() -> None:
    frame = noise("rgb8")
    assert frames.to_rgb(frame, "rgb8", SIZE) is frame


@pytest.mark.parametrize(
    ("frame", "encoding", "message"),
    [
        (noise("rgb8").astype(np.float32), "rgb8", r"must be uint8 \[H, W, 3\], got float32 \[48, 64, 3\]"),
        (noise("rgb8"), "mono8", r"must be uint8 \[H, W\] for mono8, got uint8 \[48, 64, 3\]"),
        (noise("mono8", (48, 63)), "nv12", r"uint8 \[H × 3/2, W\], H and W even for nv12, got uint8 \[48, 63\]"),
        (np.zeros((4, 3, 2), np.uint8), "yuyv", r"uint8 \[H, W, 2\], W even for yuyv, got uint8 \[4, 3, 2\]"),
        ([[1]], "rgb8", "must be a NumPy array, uint8 .*, not list"),
        (noise("rgb8"), "jpeg", "unknown encoding 'jpeg': use one of rgb8, bgr8"),
        (np.broadcast_to(np.uint8(0), (1 << 20, 1 << 20, 3)), "rgb8", "is too large: at most"),
        (np.zeros((0, 4, 3), np.uint8), "rgb8", r"got uint8 \[0, 4, 3\]"),
    ],
)
def test_what_is_no_frame_names_both_forms(frame: NDArray[np.uint8], encoding: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        frames.to_rgb(frame, encoding)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_labels_come_back_by_nearest(have: tuple[int, int], size: tuple[int, int]) -> None:
    labels = np.arange(have[0] * have[1], dtype=np.uint16).astype(np.uint8).reshape(have)
    out = np.empty(size, np.uint8)
    assert frames.enlarged(labels, size, out) is out
    rows, columns = ([int((i + 0.5) * h / n) for i in range(n)] for h, n in zip(have, size, strict=True))
    assert (out == labels[np.ix_(rows, columns)]).all()
