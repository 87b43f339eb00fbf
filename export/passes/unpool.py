"""MaxPool with indices → MaxUnpool becomes slices, comparisons and selects, which every engine has.

The place of a window's maximum is found separably, along the columns and then along the rows, as a small
integer code (row offset · window width + column offset). Comparing with ≥ keeps the earlier element, so
among equals the first in row-major order wins, as torch.nn.MaxPool2d does. Beyond the border the image is
continued by its edge: such an element is never greater than the window's own, and where it ties the code is
moved onto the edge itself.

Unpooling looks from the output's side: each output position has a fixed, small set of windows that may have
written it. With overlapping windows several may have; the last of them in row-major order stays, as in
torch.nn.MaxUnpool2d on the CPU. The positions of one phase modulo the stride form a plane of the pooled size;
DepthToSpace interleaves the planes. Nothing is computed with the values, so the result is exact, in int8 too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeseg.errors import InputError
from edgeseg.export.passes._rewrite import Rewriter, array, attribute, shape


def apply(model: ir.Model) -> bool:
    rewriter = Rewriter(model)
    unpools = [node for node in model.graph if node.op_type == "MaxUnpool"]
    codes: dict[ir.Node, ir.Value] = {}
    for node in unpools:
        pool = node.inputs[1].producer() if node.inputs[1] is not None else None
        if pool is None or pool.op_type != "MaxPool":
            raise InputError(
                f"MaxUnpool '{node.outputs[0].name}' takes its indices from no MaxPool: it has no static form"
            )
        window = _Window.of(pool, node)
        if pool not in codes:
            codes[pool] = _Argmax(rewriter, pool, window).code()
        rewriter.replace(node.outputs[0], _unpool(rewriter, node, codes[pool], window))
    for pool in codes:  # the values stay; the indices are no longer asked for
        x, value = pool.inputs[0], pool.outputs[0]
        assert x is not None
        attributes = {k: a.value for k, a in pool.attributes.items()}
        rewriter.replace(value, rewriter.op("MaxPool", [x], f"{value.name}_values", **attributes))
    if unpools:
        rewriter.finish()
    return bool(unpools)


@dataclass(frozen=True)
class _Window:
    """A square pooling window: ``kernel``, ``stride``, ``pad`` at the start; full and pooled (height, width)."""

    kernel: int
    stride: int
    pad: int
    full: tuple[int, int]
    pooled: tuple[int, int]

    @classmethod
    def of(cls, pool: ir.Node, unpool: ir.Node) -> _Window:
        assert pool.inputs[0] is not None
        full, pooled = shape(pool.inputs[0]), shape(pool.outputs[0])
        kernel, strides = attribute(pool, "kernel_shape", None), attribute(pool, "strides", (1, 1))
        pads, dilations = attribute(pool, "pads", (0, 0, 0, 0)), attribute(pool, "dilations", (1, 1))
        asked = array(unpool.inputs[2]) if len(unpool.inputs) > 2 else None
        output = shape(unpool.outputs[0]) if asked is None else tuple(asked.tolist())
        pads = pads[: len(pads) // 2]  # those at the far edge, like ceil_mode, show in the pooled size
        square = len(set(kernel)) == len(set(strides)) == len(set(pads)) == 1 and set(dilations) == {1}
        if not square or tuple(output) != full:
            raise InputError(
                f"MaxUnpool '{unpool.outputs[0].name}': only square windows without dilation, unpooled to the"
                f" pooled input's size, are rewritten (kernel {kernel}, output {output}, input {full})"
            )
        return cls(kernel[0], strides[0], pads[0], full[2:], pooled[2:])  # type: ignore[arg-type]

    @property
    def plane(self) -> tuple[int, int]:
        """Size of the full map's positions of one phase modulo the stride."""
        return -(-self.full[0] // self.stride), -(-self.full[1] // self.stride)

    @property
    def offsets(self) -> range:
        """Positions of the window's elements relative to stride · index, in scan order."""
        return range(-self.pad, self.kernel - self.pad)

    def reach(self, axis: int) -> int:
        """How far past the far edge the last window looks."""
        last = (self.pooled[axis] - 1) * self.stride + self.kernel - 1 - self.pad
        return max(0, last - self.full[axis] + 1)


class _Argmax:
    """Builds the code of each window's first maximum, int32, shaped as the pooled map."""

    def __init__(self, rewriter: Rewriter, pool: ir.Node, window: _Window) -> None:
        self.r, self.w = rewriter, window
        assert pool.inputs[0] is not None
        self.x, self.name = pool.inputs[0], f"{pool.outputs[0].name}_argmax"

    def code(self) -> ir.Value:
        numbers = range(self.w.kernel)
        values, (column,) = self._fold(self._along(self.x, 3), [[self._int(k) for k in numbers]])
        column = self._onto_edge(column, 3, 1)
        unit = self.w.kernel
        _, (row, column) = self._fold(
            self._along(values, 2), [[self._int(k * unit) for k in numbers], self._along(column, 2)]
        )
        return self.r.op("Add", [self._onto_edge(row, 2, unit), column], self.name)

    def _along(self, x: ir.Value, axis: int) -> list[ir.Value]:
        return self._phases(self._edge(x, axis), axis)

    def _fold(self, parts: list[ir.Value], tables: list[list[ir.Value]]) -> tuple[ir.Value, list[ir.Value]]:
        """The greatest of ``parts``, and from each table the entry of the first part that is so great."""
        best, found = parts[0], [table[0] for table in tables]
        for k, part in enumerate(parts[1:], start=1):
            keep = self.r.op("GreaterOrEqual", [best, part], f"{self.name}_keep")
            best = self.r.op("Max", [best, part], f"{self.name}_max")
            found = [
                self.r.op("Where", [keep, old, table[k]], f"{self.name}_code")
                for old, table in zip(found, tables, strict=True)
            ]
        return best, found

    def _onto_edge(self, code: ir.Value, axis: int, unit: int) -> ir.Value:
        """Before the border stand copies of the first element: a maximum there is that element's."""
        if not self.w.pad:
            return code
        index = np.arange(self.w.pooled[axis - 2], dtype=np.int32)
        least = unit * np.maximum(0, self.w.pad - index * self.w.stride).reshape(
            (1, 1, 1, -1) if axis == 3 else (1, 1, -1, 1)
        )
        return self.r.op("Max", [code, self.r.const(least, f"{self.name}_first")], f"{self.name}_code")

    def _edge(self, x: ir.Value, axis: int) -> ir.Value:
        before, after = self.w.pad, self.w.reach(axis - 2)
        if not before and not after:
            return x
        pads = np.zeros(8, np.int64)
        pads[axis], pads[4 + axis] = before, after
        return self.r.op("Pad", [x, self.r.const(pads, f"{self.name}_pads")], f"{self.name}_edge", mode="edge")

    def _phases(self, x: ir.Value, axis: int) -> list[ir.Value]:
        """One strided slice along ``axis`` for each element of the window."""
        length, s = self.w.pooled[axis - 2], self.w.stride
        return [
            _slice(self.r, x, axis, start, start + (length - 1) * s + 1, s, f"{self.name}_slice")
            for start in range(self.w.kernel)
        ]

    def _int(self, number: int) -> ir.Value:
        return self.r.const(np.array([number], np.int32), f"{self.name}_{number}")


def _unpool(r: Rewriter, node: ir.Node, code: ir.Value, w: _Window) -> ir.Value:
    x, name, s = node.inputs[0], str(node.outputs[0].name), w.stride
    assert x is not None
    zero = r.const(np.zeros([1], np.float32), f"{name}_zero")
    shifted = _Shifts(r, x, code, w, name)
    planes = []
    for phase in range(s * s):
        plane = zero
        for row, column in reversed(_writers(w, phase // s, phase % s)):
            number = (row + w.pad) * w.kernel + column + w.pad
            where = (-(row - phase // s) // s, -(column - phase % s) // s)
            value, codes = shifted.at(where)
            wrote = r.op("Equal", [codes, r.const(np.array([number], np.int32), f"{name}_{number}")], f"{name}_wrote")
            plane = r.op("Where", [wrote, value, plane], f"{name}_plane")
        if plane is zero:  # a stride wider than the window leaves positions that nothing writes
            plane = r.op("Mul", [shifted.at((0, 0))[0], zero], f"{name}_plane")
        planes.append(plane)
    if s == 1:
        return planes[0]
    joined = r.op("Concat", planes, f"{name}_planes", axis=1)
    return _crop(r, r.op("DepthToSpace", [joined], f"{name}_wide", blocksize=s, mode="DCR"), w, name)


def _writers(w: _Window, row_phase: int, column_phase: int) -> list[tuple[int, int]]:
    """Window offsets that reach this phase, the one that wrote last first: a smaller offset is a later window."""
    rows = [o for o in w.offsets if (o - row_phase) % w.stride == 0]
    columns = [o for o in w.offsets if (o - column_phase) % w.stride == 0]
    return [(row, column) for row in rows for column in columns]


class _Shifts:
    """The pooled values and codes as seen from neighbouring windows: shifted, with no code beyond the border."""

    def __init__(self, r: Rewriter, x: ir.Value, code: ir.Value, w: _Window, name: str) -> None:
        self.r, self.w, self.name = r, w, name
        self.before = (w.kernel - 1 - w.pad) // w.stride
        after = [plane - pooled - (-w.pad // w.stride) for plane, pooled in zip(w.plane, w.pooled, strict=True)]
        self.made: dict[tuple[int, int], tuple[ir.Value, ir.Value]] = {}
        if w.plane == w.pooled:
            self.made[0, 0] = x, code
        if self.before or any(after):
            pads = r.const(np.array([0, 0, *[self.before] * 2, 0, 0, *after], np.int64), f"{name}_pads")
            none = r.const(np.array(-1, np.int32), f"{name}_none")
            self.wide = (
                r.op("Pad", [x, pads], f"{name}_wide"),
                r.op("Pad", [code, pads, none], f"{name}_codes"),
            )

    def at(self, where: tuple[int, int]) -> tuple[ir.Value, ir.Value]:
        if where not in self.made:
            self.made[where] = self._cut(self.wide[0], where), self._cut(self.wide[1], where)
        return self.made[where]

    def _cut(self, x: ir.Value, where: tuple[int, int]) -> ir.Value:
        for axis, shift, length in ((2, where[0], self.w.plane[0]), (3, where[1], self.w.plane[1])):
            start = self.before + shift
            x = _slice(self.r, x, axis, start, start + length, 1, f"{self.name}_shift")
        return x


def _crop(r: Rewriter, x: ir.Value, w: _Window, name: str) -> ir.Value:
    """To the full size, where that is no multiple of the stride."""
    for axis, full, plane in zip((2, 3), w.full, w.plane, strict=True):
        if plane * w.stride > full:
            x = _slice(r, x, axis, 0, full, 1, f"{name}_cut")
    return x


def _slice(r: Rewriter, x: ir.Value, axis: int, start: int, stop: int, step: int, name: str) -> ir.Value:
    bounds = [
        r.const(np.array([v], np.int64), f"{name}_{k}") for k, v in zip("beas", (start, stop, axis, step), strict=True)
    ]
    return r.op("Slice", [x, *bounds], name)
