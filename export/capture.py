"""PyTorch network → ONNX, by torch.onnx's exporter, with max-unpooling kept whole.

The exporter decomposes ``max_unpool2d`` into a scatter over computed indices, which no edge engine runs
well. Here it stays ONNX's own MaxUnpool beside MaxPool's Indices, for the ``unpool`` pass to rewrite.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

OPSET = 18


def capture(
    network: torch.nn.Module, size: tuple[int, int], whole_unpool: bool = True, outputs: tuple[str, ...] = ("logits",)
) -> ir.Model:
    """Trace ``network`` at a static input 1×3×H×W, float32, into ONNX (``x`` → ``outputs``).

    Without ``whole_unpool`` unpooling is what the exporter makes of it, to compare with.
    """
    whole: dict[Callable[..., Any], Callable[..., Any]] = {
        torch.ops.aten.max_unpool2d.default: _max_unpool,
        torch.ops.aten.max_pool2d_with_indices.default: _max_pool,
        torch.ops.aten.max_pool2d.default: _max_pool_alone,
    }
    example = torch.zeros(1, 3, *size)
    with _quiet():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["x"],
            output_names=list(outputs),
            custom_translation_table=whole if whole_unpool else None,
            verbose=False,
        )
    assert program is not None
    model: ir.Model = program.model
    return model


def _max_pool(
    x: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> Any:
    strides = list(stride or kernel_size)
    windows = zip(x.shape[-2:], kernel_size, strides, padding, dilation, strict=True)
    beyond = [_beyond(int(n), d * (k - 1) + 1, s, p) if ceil_mode else 0 for n, k, s, p, d in windows]
    return op.MaxPool(
        x,
        kernel_shape=list(kernel_size),
        strides=strides,
        pads=[*padding, *(p + b for p, b in zip(padding, beyond, strict=True))],
        dilations=list(dilation),
    )


def _max_pool_alone(x: Any, *arguments: Any, **named: Any) -> Any:
    values, _ = _max_pool(x, *arguments, **named)
    return values


def _beyond(length: int, window: int, stride: int, pad: int) -> int:
    """How far past its padding torch's last window reaches in ceil_mode: pads that every engine takes, where a
    rounding mode with a map smaller than the window is refused."""
    count = -(-(length + 2 * pad - window) // stride) + 1
    if (count - 1) * stride >= length + pad:  # a window must begin inside
        count -= 1
    return max(0, (count - 1) * stride + window - length - 2 * pad)


def _max_unpool(x: Any, indices: Any, output_size: Sequence[int]) -> Any:
    # aten's unpooling knows only the output's size; the window is MaxPool's, found through the indices.
    shape: Any = op.Constant(value_ints=[*(int(d) for d in x.shape[:-2]), *(int(s) for s in output_size)])
    return op.MaxUnpool(x, indices, shape, kernel_shape=[1, 1])


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs of packages it does not find and of its own deprecations; users can mend neither."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
