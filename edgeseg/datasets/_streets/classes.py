"""Label ids: CamVid's eleven classes in CamVid's order."""

from __future__ import annotations

from edgeseg.spec import ClassSpec

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

CLASSES = (
    ClassSpec("Sky", (128, 128, 128)),
    ClassSpec("Building", (128, 0, 0)),
    ClassSpec("Pole", (192, 192, 128)),
    ClassSpec("Road", (128, 64, 128)),
    ClassSpec("Pavement", (60, 40, 222)),
    ClassSpec("Tree", (128, 128, 0)),
    ClassSpec("SignSymbol", (192, 128, 128)),
    ClassSpec("Fence", (64, 64, 128)),
    ClassSpec("Car", (64, 0, 128)),
    ClassSpec("Pedestrian", (64, 64, 0)),
    ClassSpec("Bicyclist", (0, 128, 192)),
)
