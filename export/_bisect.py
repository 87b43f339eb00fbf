"""Finds the first layer at which an int8 engine departs from its graph.

The Q/DQ graph is cut behind a tensor, the cut compiled by the target itself and run on the golden frame in a process of
its own; the same cut in exact arithmetic says what the tensor should be. What is wrong stays wrong further on, so the
place is found by halving; then it is verified, and moved up where one of its own inputs is wrong already.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeseg.artifact import MANIFEST, entries, write_golden
from edgeseg.errors import CheckFailed, EdgesegError
from edgeseg.export._exact import run_exactly
from edgeseg.export._targets import Target
from edgeseg.export.passes._rewrite import array, clean
from edgeseg.export.quantize.plan import ACTIVATIONS, COMPUTE
from edgeseg.manifest import Manifest
from edgeseg.metrics import sqnr_db
from edgeseg.selfcheck import answering
from edgeseg.spec import TensorSpec

WRONG_DB = 20.0  # a saturating kernel gives 18 at one convolution; rounding alone leaves 30 and more for many layers
RIGHT_DB = 40.0
STEP_DB = 3.0
NAME = "value"


def first_wrong(model: ir.Model, target: Target, manifest: Manifest, frame: NDArray[np.uint8]) -> str:
    """In words: the first layer of the Q/DQ ``model`` that ``target``'s engine computes otherwise. ``manifest`` is the
    whole engine's, ``frame`` uint8 1×H×W×3."""
    return _Search(model, target, manifest, frame).found()


class _Search:
    def __init__(self, model: ir.Model, target: Target, manifest: Manifest, frame: NDArray[np.uint8]) -> None:
        self._model, self._target, self._manifest, self._frame = model, target, manifest, frame
        self._points, self._least = points(model), WRONG_DB
        self._known: dict[str, float | None] = {}

    def found(self) -> str:
        names = list(self._points)
        while names and self._db(names[-1]) is None:  # no engine can end there
            names.pop()
        low, high = -1, len(names) - 1
        last = None if high < 0 else self._db(names[high])
        if last is None or last >= RIGHT_DB:
            return "every layer holds to its graph: what follows the last differs"
        self._least = max(WRONG_DB, last + STEP_DB)  # what a shortcut leads round is less wrong at the end
        while high - low > 1:
            middle = (low + high) // 2
            if self._db(names[middle]) is None:
                del names[middle]
                high -= 1
            elif self._wrong(names[middle]):
                high = middle
            else:
                low = middle
        name = names[high]
        while earlier := [n for n in self._before(name) if self._wrong(n)]:
            name = earlier[0]
        return self._told(name)

    def _told(self, name: str) -> str:
        value = _value(self._model, name)
        before = [db for n in self._before(name) if (db := self._db(n)) is not None]
        db = self._db(name)
        there = "it does not run there" if db == -np.inf else f"{db:.1f} dB there"
        but = f", {min(before):.1f} dB before" if before else ""
        layer, kind = _layer(value)
        return f"int8 engine differs from its graph from layer {layer} ({kind}) on: {there}{but}"

    def _before(self, name: str) -> list[str]:
        """The nearest points that ``name`` is computed from, in the graph's order."""
        seen, wanted, nearest = set[ir.Node](), [_value(self._model, name).producer()], set[str]()
        while wanted:
            node = wanted.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            for value in node.inputs:
                if value is not None and value.name in self._points and value.name != name:
                    nearest.add(str(value.name))
                elif value is not None:
                    wanted.append(value.producer())
        return [n for n in self._points if n in nearest]

    def _wrong(self, name: str) -> bool:
        db = self._db(name)
        return db is not None and not db >= self._least

    def _db(self, name: str) -> float | None:
        """What the engine's tensor holds of the graph's; -inf where the engine fails, None where there is none."""
        if name not in self._known:
            self._known[name] = self._measured(name)
        return self._known[name]

    def _measured(self, name: str) -> float | None:
        cut = cut_behind(self._model, name)
        want = run_exactly(cut, self._frame)[NAME]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "cut"
            folder.mkdir()
            try:
                files = self._target.compile(cut, "int8", folder)
            except EdgesegError:
                return None
            golden = write_golden(folder, {"frame": self._frame, NAME: want})
            manifest = replace(
                self._manifest,
                model=replace(self._manifest.model, task="semantic"),
                outputs=(TensorSpec(NAME, want.shape, "float32"),),
                detection=None,
                files=entries(folder, [*files, golden]),
            )
            (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            try:
                with answering(folder) as answer:
                    return sqnr_db(want, answer(self._frame[0])[NAME])
            except CheckFailed:
                return -np.inf


def points(model: ir.Model) -> list[str]:
    """The names of the tensors that a cut may end in: behind the pair of each activation, in the graph's order."""
    found = []
    for node in model.graph:
        source = node.inputs[0] if node.inputs else None
        if node.op_type == "DequantizeLinear" and array(source) is None:
            found.append(str(node.outputs[0].name))
    return found


def cut_behind(model: ir.Model, name: str) -> ir.Model:
    """A copy of ``model`` that ends in the tensor ``name``, which is called ``NAME`` there."""
    cut = model.clone()
    value = _value(cut, name)
    cut.graph.outputs.clear()
    cut.graph.outputs.append(value)
    value.name = NAME
    clean(cut)
    return cut


def _value(model: ir.Model, name: str) -> ir.Value:
    return next(v for node in model.graph for v in node.outputs if v.name == name)


def _layer(value: ir.Value) -> tuple[str, str]:
    """The name and the operators of the layer whose pair ends in ``value``."""
    dequantize = value.producer()
    quantize = dequantize.inputs[0].producer() if dequantize is not None and dequantize.inputs[0] is not None else None
    source = quantize.inputs[0] if quantize is not None else None
    node = source.producer() if source is not None else None
    if node is None or source is None:
        return str(value.name), "input"
    kind = node.op_type
    inner = node.inputs[0].producer() if node.op_type in ACTIVATIONS and node.inputs[0] is not None else None
    if inner is not None and inner.op_type in COMPUTE:
        kind = f"{inner.op_type} + {kind}"
    return str(source.name), kind
