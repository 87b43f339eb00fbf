"""One network through one quantizer: its int8 artifacts, judged on the labels, kept as a JSON file.

A file is used again only while all it follows from is the same: images, numbers of them, package versions, and the
float engine (a vendor's) or the sources that quantize and compile (ours). Float artifacts are built where they are
missing: remove the folder of a network after a change to its capture.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeseg import export, models
from edgeseg.artifact import Artifact, entries, load, whole_folder, write_whole
from edgeseg.benchmarks.against_quantizers import vendors
from edgeseg.benchmarks.against_quantizers.networks import Network, located
from edgeseg.benchmarks.parity import Answers, check
from edgeseg.benchmarks.validity import processor
from edgeseg.datasets import open_dataset
from edgeseg.errors import CheckFailed
from edgeseg.export import BuildRequest, build
from edgeseg.export._build import ONNX_FOLDER
from edgeseg.export._frames import Frames
from edgeseg.export._tasks import TASKS

OURS = "ours"
TARGETS = ("openvino", "tflite", "onnxruntime")
PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino", "ai-edge-litert")
KEPT = ("metric", "reference", "engine", "drop", "drop_error", "agreement", "images")

Results = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """``images``: how many to calibrate on; ``limit``: how many to judge on, None all of them."""

    out: Path
    images: int = 64
    limit: int | None = None


class Comparison:
    """Of one network; what PyTorch answers is computed once for all quantizers."""

    def __init__(self, network: Network, settings: Settings) -> None:
        self.network, self.settings = located(network), settings
        self.folder = settings.out / network.name
        self._stated = {"data": network.data, "calibration": network.calibration}  # without this machine's folder
        self._answers = Answers()

    def run(self, quantizer: str) -> Results:
        """The quantizer's file, written anew where it does not hold: ``targets`` has the figures by target, or its
        ``error`` where the vendor's package, or our own self-check, does not take the network."""
        vendor = None if quantizer == OURS else vendors.load(quantizer)
        basis = self._basis(vendor)
        kept = read(self.settings.out, self.network, quantizer)
        if kept is not None and kept["basis"] == basis:
            return kept
        found = self._ours() if vendor is None else {vendor.TARGET: self._theirs(vendor, quantizer)}
        document = {"basis": basis, "cpu": processor(), "targets": found}
        if vendor is not None:  # so that the table is made where the vendor's package is not installed, too
            document["vendor"] = {"title": vendor.TITLE, "call": vendor.CALL, "target": vendor.TARGET}
        path = _file(self.settings.out, self.network, quantizer)
        write_whole(path, json.dumps(document, indent=1, sort_keys=True) + "\n")
        return document

    def _basis(self, vendor: vendors.Vendor | None) -> Results:
        packages = PACKAGES if vendor is None else vendor.PACKAGES
        basis: Results = {**self._stated, "images": self.settings.images, "limit": self.settings.limit}
        basis["packages"] = {name: version(name) for name in packages}
        if vendor is None:
            return {**basis, "sources": _sources()}
        return {**basis, "float": {n: e.sha256 for n, e in self._float(vendor.TARGET).manifest.files.items()}}

    def _ours(self) -> Results:
        found = {}
        for target in TARGETS:
            try:
                (path,) = build(self._request("int8", (target,), OURS))
            except CheckFailed as error:  # an engine that is not kept is a result, too
                found[target] = {"error": str(error)[:200]}
                continue
            # Without it ``check`` leaves the graph in exact arithmetic out, half of its time, of no use to the table.
            shutil.rmtree(self.folder / OURS / ONNX_FOLDER)
            found[target] = self._judged(path)
        return found

    def _theirs(self, vendor: vendors.Vendor, name: str) -> Results:
        source = self._float(vendor.TARGET)
        path = self.folder / name / vendor.TARGET
        try:
            with whole_folder(path) as folder, redirect_stdout(sys.stderr):
                files = vendor.quantize(source.path, self._frames, folder)
                # No golden outputs: nothing says what a vendor's scales must give.
                manifest = replace(source.manifest, precision="int8", files=entries(folder, files))
                (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
            return self._judged(path)
        except Exception as error:  # a package of others may raise anything: what it says is the result
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}

    def _judged(self, path: Path) -> Results:
        found = check(path, open_dataset(self.network.data), limit=self.settings.limit, show=0, answers=self._answers)
        return {key: value for key, value in found.to_json().items() if key in KEPT} | {"left_out": found.left_out}

    def _float(self, target: str) -> Artifact:
        """What a vendor quantizes. A detector's boxes are left to the runtime: shape inference before
        ``quantize_static`` stops at the NonZero that chooses them in the graph."""
        done = sorted((self.folder / "float").glob(f"*-{target}-fp32"))
        if done:
            return load(done[0])
        request = self._request("fp32", (target,), "float")
        detects = models.spec(self.network.model).task == "detection"
        return load(build(replace(request, output="logits") if detects else request)[0])

    def _request(self, precision: str, targets: tuple[str, ...], out: str) -> BuildRequest:
        n = self.network
        return BuildRequest(
            n.model, n.weights, size=n.size, frame=n.frame, targets=targets, precisions=(precision,),
            data=n.calibration, calib_images=self.settings.images, out=self.folder / out,
        )  # fmt: skip

    @cached_property
    def _frames(self) -> list[NDArray[np.uint8]]:
        """Those that our own build calibrates on."""
        manifest, dataset = self._float(TARGETS[0]).manifest, open_dataset(self.network.calibration)
        fit = TASKS[manifest.model.task].fit
        count = min(self.settings.images, len(dataset))
        return list(Frames(dataset, count, lambda image: fit(image, manifest.frame, manifest.preprocess)))


def read(out: Path, network: Network, quantizer: str) -> Results | None:
    """What was kept of it, if anything was."""
    try:
        document: Results = json.loads(_file(out, network, quantizer).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document


def kept(network: Network, settings: Settings) -> dict[str, Results]:
    """By quantizer, what was kept of it that was calibrated and judged on as many images."""
    names = sorted(path.stem for path in (settings.out / network.name).glob("*.json"))
    found = {name: document for name in names if (document := read(settings.out, network, name)) is not None}
    wanted = settings.images, settings.limit
    return {name: d for name, d in found.items() if (d["basis"]["images"], d["basis"]["limit"]) == wanted}


def _file(out: Path, network: Network, quantizer: str) -> Path:
    return out / network.name / f"{quantizer}.json"


def _sources() -> str:
    """SHA-256 over the sources of ``edgeseg.export``."""
    root = Path(str(export.__file__)).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
