"""Boxes in the graph: decoding and ONNX's NonMaxSuppression behind a detector's raw outputs. The bare operator, which
sees every anchor; engines have ``export/passes/suppress.py``. ``edgeseg.boxes`` is proved and timed against it::

    python -m tests.nms_graph

builds the packaged EfficientDet's raw outputs of eight scenes and times both, in turn, on two threads.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeseg.boxes import FARTHEST

Raw = tuple[NDArray[np.float32], NDArray[np.float32]]


def nms_graph(
    anchors: NDArray[np.float32], classes: int, score: float = 0.05, iou: float = 0.5, most: int = 100
) -> bytes:
    """``class_logits`` A×C, ``box_deltas`` A×4 → ``boxes`` 1×A×4, ``scores`` 1×C×A and ``selected`` N×3 (0, class,
    anchor): at most ``most`` of each class."""
    count, nodes = len(anchors), []
    constants = {
        "centre": anchors[:, :2], "size": anchors[:, 2:], "half": np.float32(0.5), "low": np.float32(-FARTHEST),
        "high": np.float32(FARTHEST), "0": np.array([0]), "2": np.array([2]), "4": np.array([4]), "1": np.array([1]),
        "batch": np.array([1, count, 4]), "flat": np.array([1, classes, count]), "most": np.int64(most),
        "iou": np.float32(iou), "score": np.float32(score),
    }  # fmt: skip

    def op(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    moved = op("Mul", [op("Slice", ["box_deltas", "0", "2", "1"], "t_yx"), "size"], "moved")
    middle = op("Add", [moved, "centre"], "middle")
    grown = op("Clip", [op("Slice", ["box_deltas", "2", "4", "1"], "t_hw"), "low", "high"], "grown")
    extent = op("Mul", [op("Mul", [op("Exp", [grown], "factor"), "size"], "extent"), "half"], "half_extent")
    corners = [op("Sub", [middle, extent], "from"), op("Add", [middle, extent], "to")]
    op("Reshape", [op("Concat", corners, "corners", axis=1), "batch"], "boxes")
    by_class = op("Transpose", [op("Sigmoid", ["class_logits"], "probability")], "by_class", perm=[1, 0])
    op("Reshape", [by_class, "flat"], "scores")
    op("NonMaxSuppression", ["boxes", "scores", "most", "iou", "score"], "selected")
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "boxes",
        [
            tensor("class_logits", TensorProto.FLOAT, [count, classes]),
            tensor("box_deltas", TensorProto.FLOAT, [count, 4]),
        ],
        [
            tensor("boxes", TensorProto.FLOAT, [1, count, 4]),
            tensor("scores", TensorProto.FLOAT, [1, classes, count]),
            tensor("selected", TensorProto.INT64, [None, 3]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def objects(selected: NDArray[np.int64], boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> list[Any]:
    """(score, class, x0, y0, x1, y1) of what the graph selected, best first."""
    found = []
    for _, kind, anchor in selected.tolist():
        y0, x0, y1, x1 = boxes[0, anchor].tolist()
        found.append((float(scores[0, kind, anchor]), kind, x0, y0, x1, y1))
    return sorted(found, key=lambda o: -o[0])


def onnxruntime_nms(model: bytes, threads: int) -> Callable[[Raw], list[Any]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda raw: session.run(["selected", "boxes", "scores"], {"class_logits": raw[0], "box_deltas": raw[1]})


def openvino_nms(model: bytes, threads: int) -> Callable[[Raw], list[Any]]:
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(model, b""), "CPU", {"INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()

    def run(raw: Raw) -> list[Any]:
        found = request.infer({"class_logits": raw[0], "box_deltas": raw[1]})
        return [np.array(found[name]) for name in ("selected", "boxes", "scores")]

    return run


def main() -> None:
    from edgeseg.boxes import Decoder, anchor_boxes
    from edgeseg.datasets import open_dataset
    from edgeseg.images import letterbox_frame
    from edgeseg.models import load
    from edgeseg.models._reference import DetectionReference
    from edgeseg.spec import Detection

    network, data = load("efficientdet", sys.argv[1] if sys.argv[1:] else None), open_dataset("streets:8@240x320:val")
    anchors, size = network.variant.anchors, (256, 320)
    assert anchors is not None
    preprocess = network.variant.preprocess(size)
    reference = DetectionReference(network.module, preprocess)
    raws = [reference.run(letterbox_frame(data[i].frame, size, preprocess.mean)[0]) for i in range(len(data))]
    model = nms_graph(anchor_boxes(anchors, size), network.classes)
    decoder = Decoder(Detection(anchors), preprocess, size)
    ways: dict[str, Callable[[Raw], Any]] = {
        "edgeseg.boxes": lambda raw: decoder(*raw),
        "ONNX Runtime": onnxruntime_nms(model, 2),
        "OpenVINO": openvino_nms(model, 2),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(6):
        for raw in raws:
            for name, run in ways.items():
                start = time.perf_counter()
                run(raw)
                if turn:
                    times[name].append(1e3 * (time.perf_counter() - start))
    for name, ms in times.items():
        low, middle, high = np.percentile(ms, (10, 50, 90))
        print(f"{name}: median {middle:.2f} ms ({low:.2f} … {high:.2f})")


if __name__ == "__main__":
    main()
