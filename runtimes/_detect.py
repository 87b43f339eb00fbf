"""A detector's outputs become objects here: with what the manifest says, in NumPy, or as the graph has made them."""

from __future__ import annotations

from edgeseg.boxes import Decoder, Detections
from edgeseg.errors import ArtifactError
from edgeseg.manifest import Manifest
from edgeseg.runtimes._runtime import Outputs

GRAPH, HERE = "graph", "runtime"  # the places for non-maximum suppression that this version knows
NEEDED = {GRAPH: {"boxes", "scores", "classes", "count"}, HERE: {"class_logits", "box_deltas"}}


class Detector:
    """``detect`` takes what ``run`` gives.

    Raises:
        ArtifactError: the manifest does not say how boxes are made, or in a way unknown here, or of outputs that the
            engine does not have.
    """

    def __init__(self, manifest: Manifest) -> None:
        how = manifest.detection
        if how is None or how.nms not in NEEDED:
            what = "nothing of boxes" if how is None else f"that boxes are suppressed in '{how.nms}'"
            raise ArtifactError(f"manifest.json says {what}, which is unknown here: update edgeseg or build again")
        if missing := sorted(NEEDED[how.nms] - {spec.name for spec in manifest.outputs}):
            raise ArtifactError(
                f"manifest.json says that boxes are suppressed in the {how.nms} and names no output"
                f" {', '.join(missing)}: build the artifact again"
            )
        self._made = how.nms == GRAPH
        self._decode = Decoder(how, manifest.preprocess, manifest.frame)

    def detect(self, outputs: Outputs) -> Detections:
        """The objects on the first frame of the batch."""
        return given(outputs) if self._made else self.decode(outputs)

    def decode(self, outputs: Outputs) -> Detections:
        """The objects that raw ``outputs`` hold, an engine's or another's, made here in any case."""
        return self._decode(outputs["class_logits"][0], outputs["box_deltas"][0])


def given(outputs: Outputs) -> Detections:
    """The objects on the first frame of the batch as a graph has made them."""
    boxes, scores, classes = (outputs[name][0] for name in ("boxes", "scores", "classes"))
    return Detections(boxes, scores, classes, int(outputs["count"][0]))
