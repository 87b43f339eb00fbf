"""Does this engine, on this machine, still give the golden outputs it was built with?"""

from __future__ import annotations

from collections.abc import Callable

from edgeseg.artifact import Artifact
from edgeseg.errors import ArtifactError, CheckFailed
from edgeseg.manifest import Manifest
from edgeseg.metrics import agreement, sqnr_db
from edgeseg.runtimes._runtime import Feeds, Outputs

# Golden outputs come from the network itself (fp32, fp16) or from the quantized graph in exact arithmetic
# (int8), so what these leave room for is rounding: labels where two classes are as good as equal. int8 kernels that
# saturate give 0.85 of ENet's labels; small frames, all borders, have been seen at 0.97.
LABELS = {"fp32": 0.999, "fp16": 0.995, "int8": 0.95}
REALS_DB = {"fp32": 40.0, "fp16": 25.0, "int8": 15.0}
# Where the quantized graph itself is less than this above the float one, rounding once differently anywhere changes all
# behind it: two correct engines are as far apart as either is from float (EfficientDet-D0's boxes: 11 dB both).
ROUNDING_DB = 3.0
# Random weights damp no rounding: only an engine that computes something else is caught.
RANDOM_LABELS = {"fp32": 0.99, "fp16": 0.8, "int8": 0.3}
RANDOM_DB = {"fp32": 40.0, "fp16": 15.0, "int8": 3.0}


def selftest(run: Callable[[Feeds], Outputs], artifact: Artifact) -> dict[str, float]:
    """Agreement of labels (0 to 1) and SQNR (dB) of every other output with the golden ones.

    Raises:
        CheckFailed: below what the artifact's precision allows.
        ArtifactError: the golden file does not fit the manifest.
    """
    manifest, golden = artifact.manifest, artifact.golden()
    expected = {spec.name: golden.get(spec.name) for spec in manifest.outputs}
    if any(v is None for v in expected.values()) or any(s.name not in golden for s in manifest.inputs):
        raise ArtifactError(f"{artifact.path}: golden.npz lacks tensors that the manifest names")
    got = run({spec.name: golden[spec.name] for spec in manifest.inputs})
    figures: dict[str, float] = {}
    for name, want in expected.items():
        assert want is not None
        if want.shape != got[name].shape:
            raise ArtifactError(f"{artifact.path}: golden '{name}' is {want.shape}, the engine gives {got[name].shape}")
        least = _least(name, manifest)
        figures[name] = agreement(want, got[name]) if name == "labels" else sqnr_db(want, got[name])
        if not figures[name] >= least:
            unit = "of labels" if name == "labels" else f"dB of {name}"
            raise CheckFailed(
                f"{artifact.path.name}: the golden self-test gave {figures[name]:.4g} {unit}, at least {least} is"
                " expected: this machine computes it wrongly or the files do not belong together; rebuild it here"
            )
    return figures


def _least(output: str, manifest: Manifest) -> float:
    """The agreement, or the decibels, below which ``output`` is wrong."""
    drawn = manifest.model.weights.source.startswith("random:")
    if output == "labels":
        return (RANDOM_LABELS if drawn else LABELS)[manifest.precision]
    noise = (manifest.calibration or {}).get("noise_db", {}).get(output)
    least = (RANDOM_DB if drawn else REALS_DB)[manifest.precision]
    return min(least, noise - ROUNDING_DB) if isinstance(noise, int | float) else least
