"""Does this engine, on this machine, still give the golden outputs it was built with?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeseg.artifact import Artifact
from edgeseg.boxes import alike, clear_of_cut
from edgeseg.errors import ArtifactError, CheckFailed
from edgeseg.manifest import Manifest
from edgeseg.metrics import agreement, sqnr_db
from edgeseg.runtimes._detect import GRAPH, HERE, NEEDED, Detector, given
from edgeseg.runtimes._runtime import Feeds, Outputs

# Golden outputs come from the network itself (fp32, fp16) or from the quantized graph in exact arithmetic
# (int8), so what these leave room for is rounding: labels where two classes are as good as equal.
LABELS = {"fp32": 0.999, "fp16": 0.995, "int8": 0.95}
REALS_DB = {"fp32": 40.0, "fp16": 25.0, "int8": 15.0}
# Where the quantized graph itself is less than this above the float one, rounding once differently anywhere changes all
# behind it: two correct engines are as far apart as either is from float (EfficientDet-D0's boxes: 11 dB both).
ROUNDING_DB = 3.0
# A correct int8 engine has been seen to move 0.3 to 1.2 times as many labels as quantization itself (docs/int8.md).
ROUNDING_LABELS, FEW_LABELS = 2.0, 0.01
OBJECTS = {"fp32": 0.99, "fp16": 0.95, "int8": 0.6}  # the share of them, by score: weak ones come and go
OF_OBJECTS = "boxes"  # the output under which a graph's objects are judged, with its scores, classes and count
OWN_OBJECTS = 0.99  # what the graph makes of raw outputs and what NumPy makes of the same ones: no precision enters
# Random weights damp no rounding: only an engine that computes something else is caught.
RANDOM_LABELS = {"fp32": 0.99, "fp16": 0.8, "int8": 0.3}
RANDOM_DB = {"fp32": 40.0, "fp16": 15.0, "int8": 3.0}
RANDOM_OBJECTS = {"fp32": 0.95, "fp16": 0.5, "int8": 0.1}


def selftest(run: Callable[[Feeds], Outputs], artifact: Artifact) -> dict[str, float]:
    """Agreement of labels and of objects (0 to 1), and SQNR (dB) of every other output, with the golden ones. Where raw
    outputs stand beside objects, these must be what NumPy makes of the engine's own raw outputs instead: on
    the golden frame rounding may decide which ones there are.

    Raises:
        CheckFailed: below what the artifact's precision allows.
        ArtifactError: the golden file does not fit the manifest.
    """
    manifest, golden = artifact.manifest, artifact.golden()
    expected = {spec.name: golden[spec.name] for spec in manifest.outputs}
    got = run({spec.name: golden[spec.name] for spec in manifest.inputs})
    figures: dict[str, float] = {}
    for name, want in expected.items():
        if want.shape != got[name].shape:
            raise ArtifactError(f"{artifact.path}: golden '{name}' is {want.shape}, the engine gives {got[name].shape}")
        if name in NEEDED[GRAPH] and name != OF_OBJECTS:
            continue  # judged as one
        own = name == OF_OBJECTS and expected.keys() >= NEEDED[HERE]
        least = OWN_OBJECTS if own else _least(name, manifest)
        figures[name] = _own_objects(manifest, got) if own else _figure(name, manifest, expected, got)
        if not figures[name] >= least:
            unit = {"labels": "of labels", OF_OBJECTS: "of objects"}.get(name, f"dB of {name}")
            raise CheckFailed(
                f"{artifact.path.name}: the golden self-test gave {figures[name]:.4g} {unit}, at least {least} is"
                " expected: this machine computes it wrongly or the files do not belong together; rebuild it here"
            )
    return figures


def _figure(name: str, manifest: Manifest, expected: dict[str, Any], got: Outputs) -> float:
    if name == OF_OBJECTS:
        assert manifest.detection is not None
        want = given(expected)
        return alike(want, given(got), clear_of_cut(want, manifest.detection.score_threshold))
    return agreement(expected[name], got[name]) if name == "labels" else sqnr_db(expected[name], got[name])


def _own_objects(manifest: Manifest, got: Outputs) -> float:
    return alike(Detector(manifest).decode(got), given(got))


def _least(output: str, manifest: Manifest) -> float:
    """The agreement, or the decibels, below which ``output`` is wrong."""
    drawn = manifest.model.weights.source.startswith("random:")
    if output == OF_OBJECTS:
        return (RANDOM_OBJECTS if drawn else OBJECTS)[manifest.precision]
    calibration = manifest.calibration or {}
    if output == "labels":
        least = (RANDOM_LABELS if drawn else LABELS)[manifest.precision]
        kept = calibration.get("label_agreement")
        if drawn or not isinstance(kept, int | float):
            return least
        return max(least, 1 - max(ROUNDING_LABELS * (1 - kept), FEW_LABELS))
    noise = calibration.get("noise_db", {}).get(output)
    least = (RANDOM_DB if drawn else REALS_DB)[manifest.precision]
    return min(least, noise - ROUNDING_DB) if isinstance(noise, int | float) else least
