"""What a TFLite file holds. ``python -m edgeseg.export.tflite_writer.inspect model.tflite`` lists it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from edgeseg.export.tflite_writer.schema import schema

OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
TYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}


@dataclass(frozen=True)
class Operator:
    """An operator with the types of its tensors, as NumPy spells them."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def operators(path: Path) -> list[Operator]:
    """The operators of the TFLite file at ``path``, in the order they run."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()))
    graph = model.subgraphs[0]
    types = [TYPES[t.type] for t in graph.tensors]
    return [
        Operator(
            OPERATORS[model.operatorCodes[o.opcodeIndex].builtinCode],
            tuple(types[i] for i in o.inputs),
            tuple(types[i] for i in o.outputs),
        )
        for o in graph.operators
    ]


if __name__ == "__main__":
    for operator in operators(Path(sys.argv[1])):
        print(operator.name, ", ".join(operator.inputs), "→", ", ".join(operator.outputs))
