"""A detector's raw outputs become boxes here, in NumPy, with what the manifest says."""

from __future__ import annotations

from edgeseg.boxes import Decoder, Detections
from edgeseg.errors import ArtifactError
from edgeseg.manifest import Manifest
from edgeseg.runtimes._runtime import Outputs

HERE = "runtime"  # the one place for non-maximum suppression that this version knows


class Detector:
    """``detect`` takes what ``run`` gives.

    Raises:
        ArtifactError: the manifest does not say how boxes are made, or in a way unknown here.
    """

    def __init__(self, manifest: Manifest) -> None:
        how = manifest.detection
        if how is None or how.nms != HERE:
            what = "nothing of boxes" if how is None else f"that boxes are suppressed in '{how.nms}'"
            raise ArtifactError(f"manifest.json says {what}, which is unknown here: update edgeseg or build again")
        self._decode = Decoder(how, manifest.preprocess, manifest.frame)

    def detect(self, outputs: Outputs) -> Detections:
        """The objects on the first frame of the batch."""
        return self._decode(outputs["class_logits"][0], outputs["box_deltas"][0])
