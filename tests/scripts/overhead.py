"""What ``engine.segment`` adds to the vendor's bare call: ``python -m tests.scripts.overhead ARTIFACT…``.

Both run in turn, frame by frame, warm, on one opening of the engine; the vendor's call is the least that gives labels
to Python: OpenVINO's ``infer``, LiteRT's ``set_tensor``, ``invoke``, ``get_tensor``, ONNX Runtime's ``run``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeseg.runtimes import open_artifact

FRAMES, WARM_UP = 40, 4


def bare(engine: Any, frame: Any) -> Callable[[], Any]:
    runtime = engine._life.runtime
    target, batch = engine.manifest.target, frame[None]
    if target == "openvino":
        request = runtime._model.create_infer_request()
        return lambda: request.infer({"frame": batch}, share_inputs=True)["labels"]
    if target == "tflite":
        interpreter, inputs, outputs = runtime._interpreter, runtime._inputs["frame"], runtime._outputs["labels"]

        def call() -> Any:
            interpreter.set_tensor(inputs, batch)
            interpreter.invoke()
            return interpreter.get_tensor(outputs)

        return call
    return lambda: runtime._session.run(["labels"], {"frame": batch})[0]


def measure(path: str) -> dict[str, Any]:
    with open_artifact(path) as engine:
        frame = np.random.default_rng(0).integers(0, 256, (*engine.manifest.frame, 3), np.uint8)
        calls, times = (bare(engine, frame), lambda: engine.segment(frame)), np.zeros((2, FRAMES + WARM_UP))
        for i in range(FRAMES + WARM_UP):
            for which in (0, 1) if i % 2 else (1, 0):
                start = time.perf_counter()
                calls[which]()
                times[which, i] = 1000 * (time.perf_counter() - start)
    times = times[:, WARM_UP:]
    theirs, ours = (float(np.median(t)) for t in times)
    added = np.sort(times[1] - times[0])
    return {
        "artifact": path.rstrip("/").rpartition("/")[2],
        "bare_ms": round(theirs, 3),
        "segment_ms": round(ours, 3),
        "added_ms": round(float(np.median(added)), 3),
        "added_ms_quartiles": [round(float(q), 3) for q in np.quantile(added, [0.25, 0.75])],
        "ratio": round(ours / theirs, 4),
    }


if __name__ == "__main__":
    print(json.dumps([measure(path) for path in sys.argv[1:]], indent=1))
