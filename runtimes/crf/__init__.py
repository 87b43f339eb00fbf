"""The fully connected CRF that DeepLab v1 and v2 end in, as a stage after the engine, in NumPy alone.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials"
(arXiv:1210.5644): every pixel is joined to every other, more closely the nearer they are and the more alike in
colour; labels that differ cost as much as their pixels are close (Potts). Mean field repeats: average the
beliefs under the two Gaussians, add them to the network's scores, softmax.

As in the code that DeepLab's authors tuned and released, a pixel's averages have weights of sum 1, its own
belief included; the paper's formula has plain sums without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeseg.errors import InputError
from edgeseg.runtimes._engine import Engine
from edgeseg.runtimes._runtime import Outputs
from edgeseg.runtimes.crf._permutohedral import Floats, PermutohedralLattice

__all__ = ["DEEPLAB_V2_RESNET101", "DEEPLAB_V2_VGG16", "CrfParameters", "DenseCrf", "refined", "segment_with_crf"]


@dataclass(frozen=True)
class CrfParameters:
    """The pairwise terms of DeepLab v1 (arXiv:1412.7062) and of v2 (arXiv:1606.00915).

    ``w1`` weighs appearance: positions within ``sigma_alpha`` pixels and colours within ``sigma_beta`` 8-bit
    steps. ``w2`` weighs smoothness: positions within ``sigma_gamma`` pixels.
    Both papers fix w2 = 3, sigma_gamma = 3 and 10 iterations and search the rest on validation images without
    naming what they found; w1, sigma_alpha and sigma_beta are those of the authors' released script for
    DeepLab-LargeFOV on VOC 2012 (run_densecrf.sh), within v2's ranges of 3 to 6, 30 to 100 and 3 to 6.

    Raises:
        InputError: a sigma not above 0, or a weight or the number of iterations below 0.
    """

    w1: float = 4.0
    sigma_alpha: float = 49.0
    sigma_beta: float = 5.0
    w2: float = 3.0
    sigma_gamma: float = 3.0
    iterations: int = 10

    def __post_init__(self) -> None:
        if min(self.sigma_alpha, self.sigma_beta, self.sigma_gamma) <= 0:
            raise InputError(f"the sigmas of a CRF must be above 0: {self}")
        if min(self.w1, self.w2, self.iterations) < 0:
            raise InputError(f"weights and iterations of a CRF must not be below 0: {self}")


# The authors' settings of their v2 models for VOC 2012, as re-implementations hand them on: HAL-42/FMA-WSSS
# (configs/patterns/crf/deeplab_crf.py) for VGG16, kazuto1011/deeplab-pytorch (configs/voc12.yaml) for ResNet-101.
DEEPLAB_V2_VGG16 = CrfParameters(sigma_alpha=65, sigma_beta=3, w2=2, sigma_gamma=2)
DEEPLAB_V2_RESNET101 = CrfParameters(sigma_alpha=67, sigma_beta=3, w2=3, sigma_gamma=1)


class DenseCrf:
    """Refines an engine's logits by the frame they came from. Safe to call from several threads."""

    def __init__(self, parameters: CrfParameters = CrfParameters()) -> None:
        self.parameters = parameters

    def refine(self, frame: NDArray[np.uint8], logits: Floats) -> NDArray[np.uint8]:
        """The likeliest class ids, uint8 H×W. Arguments and errors as ``marginals``."""
        best: NDArray[np.uint8] = self.marginals(frame, logits).argmax(0).astype(np.uint8)
        return best

    def marginals(self, frame: NDArray[np.uint8], logits: Floats) -> Floats:
        """Mean-field probabilities float32 C×H×W of the classes at each pixel.

        ``frame`` is uint8 H×W×3, in either channel order; ``logits`` float32 C×H×W (logarithms of
        probabilities are logits too).

        Raises:
            InputError: a shape or dtype that is not so, or sigmas too small for the frame.
        """
        _check(frame, logits)
        p = self.parameters
        appearance = PermutohedralLattice(_features(frame, p.sigma_alpha, p.sigma_beta))
        rows, columns = (_gaussian_means(length, p.sigma_gamma) for length in frame.shape[:2])
        belief = _softmax(logits)
        for _ in range(p.iterations):
            alike = appearance.average(belief.reshape(len(belief), -1)).reshape(belief.shape)
            near: Floats = np.matmul(rows @ belief, columns.T)
            alike *= p.w1
            near *= p.w2
            near += alike
            near += logits
            belief = _softmax(near)
        return belief


def segment_with_crf(engine: Engine, frame: NDArray[np.uint8], crf: DenseCrf) -> NDArray[np.uint8]:
    """Class ids uint8 H×W of one ``frame`` uint8 H×W×3, of the artifact's frame size, refined by ``crf``.

    Raises:
        InputError: a frame of another shape or dtype, or an artifact that gives no logits.
    """
    return refined(crf, frame, engine.run({engine.manifest.inputs[0].name: frame[None]}))


def refined(crf: DenseCrf, frame: NDArray[np.uint8], outputs: Outputs) -> NDArray[np.uint8]:
    """The class ids of ``frame`` from an engine's raw ``outputs``; as ``segment_with_crf``."""
    if "logits" not in outputs:
        raise InputError("a CRF needs logits, which this artifact does not give: build it with --output logits or both")
    return crf.refine(frame, outputs["logits"][0])


def _check(frame: NDArray[np.uint8], logits: Floats) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise InputError(f"a CRF's frame must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}")
    if logits.ndim != 3 or logits.shape[1:] != frame.shape[:2] or logits.dtype != np.float32:
        wanted = f"[C, {frame.shape[0]}, {frame.shape[1]}]"
        raise InputError(f"a CRF's logits must be float32 {wanted}, got {logits.dtype} {list(logits.shape)}")


def _features(frame: NDArray[np.uint8], sigma_position: float, sigma_color: float) -> Floats:
    """Row, column and colour of each pixel in units of their sigmas: float32 (H·W)×5."""
    position = np.moveaxis(np.indices(frame.shape[:2]), 0, -1) / sigma_position
    return np.concatenate([position, frame / sigma_color], -1).reshape(-1, 5).astype(np.float32)


def _gaussian_means(length: int, sigma: float) -> Floats:
    """The matrix, float32 length×length, that gives each place of a line its mean under a Gaussian. A Gaussian
    of position is one of rows times one of columns, so two of these matrices are the whole smoothness kernel."""
    place = np.arange(length)
    kernel = np.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    means: Floats = (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)
    return means


def _softmax(scores: Floats) -> Floats:
    """Over the first axis."""
    powers: Floats = np.exp(scores - scores.max(0))
    powers /= powers.sum(0)
    return powers
