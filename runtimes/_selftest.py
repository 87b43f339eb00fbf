"""Does this engine, on this machine, still give the golden outputs it was built with?"""

from __future__ import annotations

from collections.abc import Callable

from edgeseg.artifact import Artifact
from edgeseg.errors import ArtifactError, CheckFailed
from edgeseg.metrics import agreement, sqnr_db
from edgeseg.runtimes._runtime import Feeds, Outputs

# Golden outputs come from the network itself (fp32, fp16) or from the quantized graph in exact arithmetic
# (int8), so what these leave room for is rounding: labels where two classes are as good as equal.
LABELS = {"fp32": 0.999, "fp16": 0.995, "int8": 0.98}
LOGITS_DB = {"fp32": 40.0, "fp16": 25.0, "int8": 15.0}


def selftest(run: Callable[[Feeds], Outputs], artifact: Artifact) -> dict[str, float]:
    """Agreement of labels (0 to 1) and SQNR of logits (dB) with the golden outputs.

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
        least = (LABELS if name == "labels" else LOGITS_DB)[manifest.precision]
        figures[name] = agreement(want, got[name]) if name == "labels" else sqnr_db(want, got[name])
        if not figures[name] >= least:
            unit = "of labels" if name == "labels" else "dB of logits"
            raise CheckFailed(
                f"{artifact.path.name}: the golden self-test gave {figures[name]:.4g} {unit}, at least {least} is"
                " expected: this machine computes it wrongly or the files do not belong together; rebuild it here"
            )
    return figures
