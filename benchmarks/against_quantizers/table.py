"""The results as Markdown: a row for each network and vendor's quantizer, ours on the same engine beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeseg.benchmarks._markdown import rows
from edgeseg.benchmarks.against_quantizers import vendors
from edgeseg.benchmarks.against_quantizers.comparison import OURS, TARGETS, Settings, of_same_images, read
from edgeseg.benchmarks.against_quantizers.networks import Network
from edgeseg.errors import MissingExtra

NAME = "quantizers"
ENGINES = {"openvino": "OpenVINO", "tflite": "LiteRT", "onnxruntime": "ONNX Runtime"}
METRICS = {"miou": "mIoU", "map": "AP"}
HEAD = ["network", "images", "float", "engine", "ours", "drop", "vendor's quantizer", "its figure", "its drop"]
NONE = "–"

Results = Mapping[str, Any]


def table(networks: Sequence[Network], settings: Settings) -> str:
    """Of what stands in ``settings.out`` for as many images, under a line on the CPU and the packages, above how each
    quantizer was called."""
    tools = _vendors()
    cells, seen = [HEAD], []
    for network in networks:
        kept = {name: _kept(network, name, settings) for name in (OURS, *tools)}
        seen += [document for document in kept.values() if document]
        for target in TARGETS:
            for name in [name for name, vendor in tools.items() if target == vendor.TARGET]:
                cells.append(_row(network, target, tools[name].TITLE, kept[OURS], kept[name]))
    calls = [f"- {v.TITLE} ({ENGINES[v.TARGET]}): {v.CALL}" for v in tools.values()]
    return "\n\n".join([rows([row for row in cells if row]), "\n".join(calls), *_stamp(seen, settings)])


def _vendors() -> dict[str, vendors.Vendor]:
    found = {}
    for name in vendors.names():
        try:
            found[name] = vendors.load(name)
        except MissingExtra:
            continue
    return found


def _kept(network: Network, name: str, settings: Settings) -> Results | None:
    document = read(settings.out, network, name)
    return document if document and of_same_images(document, settings) else None


def _row(network: Network, target: str, title: str, ours: Results | None, theirs: Results | None) -> list[str]:
    pair = [document["targets"].get(target, {}) if document else {} for document in (ours, theirs)]
    judged = next((found for found in pair if "reference" in found), None)
    if judged is None and not any(pair):
        return []
    facts = [str(judged["images"]), f"{judged['reference']:.2f} {METRICS[judged['metric']]}"] if judged else [NONE] * 2
    return [network.title, *facts, ENGINES[target], *_figures(pair[0]), title, *_figures(pair[1])]


def _figures(found: Results) -> list[str]:
    if "error" in found:
        return [f"fails: {found['error']}".replace("|", "/"), NONE]
    if "engine" not in found:
        return [NONE, NONE]
    return [f"{found['engine']:.2f}", f"{found['drop']:.2f}".replace("-", "−")]


def _stamp(seen: Sequence[Results], settings: Settings) -> list[str]:
    packages = {name: text for document in seen for name, text in document["basis"]["packages"].items()}
    cpus = {f"{d['cpu']['model']} ({', '.join(d['cpu']['flags'] or ())})" for d in seen}
    judged = "all" if settings.limit is None else f"at most {settings.limit}, spread evenly,"
    images = f"Calibrated on {settings.images} images, judged on {judged} images of the split"
    versions = ", ".join(f"{name} {text}" for name, text in sorted(packages.items()))
    return [f"{images}; run on {'; '.join(sorted(cpus))}. Versions: {versions}."] if seen else []
