"""The results as Markdown: a row for each network and vendor's quantizer, ours on the same engine beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeseg.benchmarks._markdown import rows
from edgeseg.benchmarks.against_quantizers.comparison import OURS, TARGETS, Settings, kept
from edgeseg.benchmarks.against_quantizers.networks import Network
from edgeseg.metrics import jackknife

NAME = "quantizers"
ENGINES = {"openvino": "OpenVINO", "tflite": "LiteRT", "onnxruntime": "ONNX Runtime"}
METRICS = {"miou": "mIoU", "map": "AP"}
HEAD = [
    "network", "images", "float", "engine", "ours", "drop", "vendor's quantizer", "its figure", "its drop",
    "ours better by",
]  # fmt: skip
NONE = "–"

Results = Mapping[str, Any]


def table(networks: Sequence[Network], settings: Settings) -> str:
    """Of what stands in ``settings.out`` for as many images; below it how each quantizer was called, on which CPU, and
    the packages' versions."""
    cells, seen, calls = [HEAD], [], {}
    for network in networks:
        found = kept(network, settings)
        seen += list(found.values())
        ours = found.pop(OURS, None)
        for target in TARGETS:
            for document in [d for d in found.values() if d["vendor"]["target"] == target]:
                title, call = document["vendor"]["title"], document["vendor"]["call"]
                cells.append(_row(network, target, title, ours, document))
                calls[title] = f"- {title} ({ENGINES[target]}): {call}"
    return "\n\n".join([rows(cells), *["\n".join(calls.values())] * bool(calls), *_stamp(seen, settings)])


def _row(network: Network, target: str, title: str, ours: Results | None, theirs: Results) -> list[str]:
    pair = [document["targets"].get(target, {}) if document else {} for document in (ours, theirs)]
    judged = next((found for found in pair if "reference" in found), None)
    facts = [str(judged["images"]), f"{judged['reference']:.2f} {METRICS[judged['metric']]}"] if judged else [NONE] * 2
    return [network.title, *facts, ENGINES[target], *_figures(pair[0]), title, *_figures(pair[1]), _lead(*pair)]


def _lead(ours: Results, theirs: Results) -> str:
    """Points, with the standard error that the choice of images gives the difference; in bold where it is over two."""
    if "engine" not in ours or "engine" not in theirs:
        return NONE
    lead = ours["engine"] - theirs["engine"]
    pairs = zip(ours.get("left_out", []), theirs.get("left_out", []), strict=False)  # older files have none
    error = jackknife([mine - other for mine, other in pairs])
    told = _signed(lead) + ("" if np.isnan(error) else f" ± {error:.2f}")
    return f"**{told}**" if abs(lead) > 2 * error else told


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _figures(found: Results) -> list[str]:
    if "error" in found:
        return [f"fails: {found['error']}".replace("|", "/"), NONE]
    if "engine" not in found:
        return [NONE, NONE]
    return [f"{found['engine']:.2f}", _signed(found["drop"])]


def _stamp(seen: Sequence[Results], settings: Settings) -> list[str]:
    packages = {name: text for document in seen for name, text in document["basis"]["packages"].items()}
    cpus = {f"{d['cpu']['model']} ({', '.join(d['cpu']['flags'] or ())})" for d in seen}
    judged = "all" if settings.limit is None else f"at most {settings.limit}, spread evenly,"
    images = f"Calibrated on {settings.images} images, judged on {judged} images of the split"
    versions = ", ".join(f"{name} {text}" for name, text in sorted(packages.items()))
    return [f"{images}; run on {'; '.join(sorted(cpus))}. Versions: {versions}."] if seen else []
