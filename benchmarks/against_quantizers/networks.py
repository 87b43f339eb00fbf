"""What is compared: networks with trained weights, the images they are calibrated on, those they are judged on."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from edgeseg import models
from edgeseg.errors import InputError

STREETS = (240, 320)
PLACE = "{data}"  # the folder of EDGESEG_DATA


@dataclass(frozen=True)
class Network:
    """``size`` is the network's input, ``frame`` the camera's (height, width); ``calibration`` and ``data`` are
    ``KIND:PATH[:SPLIT]``; ``weights`` None takes the package's."""

    name: str
    model: str
    title: str
    calibration: str
    data: str
    size: tuple[int, int] | None = None
    frame: tuple[int, int] | None = None
    weights: str | None = None


def published() -> list[Network]:
    """Published checkpoints on real images. The COCO sample has one split: its calibration images are among those
    judged, for every quantizer alike."""
    camvid, coco = f"camvid:{PLACE}/camvid", f"coco:{PLACE}/coco_sample"
    enet, espnet = (
        f"{PLACE}/weights/davidtvs_enet_921e40c_camvid.pth",
        f"{PLACE}/weights/espnet_decoder_p2_q8_camvid.pth",
    )
    lite0 = f"{PLACE}/weights/efficientdet_lite0_coco_int8.dequant.npz"
    return [
        Network("enet-camvid", "enet", "ENet, CamVid", f"{camvid}:train", f"{camvid}:val", weights=enet),
        Network("espnet-camvid", "espnet", "ESPNet, CamVid", f"{camvid}:train", f"{camvid}:val", weights=espnet),
        Network("lite0-coco", "efficientdet", "EfficientDet-Lite0, COCO sample", coco, coco, weights=lite0),
    ]


def packaged() -> list[Network]:
    """The networks whose weights the package carries, on the scenes they were trained for."""
    height, width = STREETS
    splits = [f"streets:{count}@{height}x{width}:{split}" for count, split in ((100, "train"), (100, "val"))]
    found = []
    for name in models.packaged():
        size = models.packaged_size(name, STREETS)
        title = f"{models.spec(name).title}, streets"
        found.append(Network(f"{name}-streets", name, title, splits[0], splits[1], size, STREETS))
    return found


def every() -> list[Network]:
    return published() + packaged()


def located(network: Network) -> Network:
    """``network`` with the folder of EDGESEG_DATA in its paths.

    Raises:
        InputError: it needs that folder, and the variable is not set.
    """
    parts = {key: getattr(network, key) for key in ("calibration", "data", "weights")}
    if not any(PLACE in (text or "") for text in parts.values()):
        return network
    folder = os.environ.get("EDGESEG_DATA")
    if not folder:
        raise InputError(f"{network.name}: set EDGESEG_DATA to the folder of real images and published checkpoints")
    found = {key: text and text.replace(PLACE, str(Path(folder))) for key, text in parts.items()}
    return replace(network, **found)
