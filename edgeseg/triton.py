"""An artifact as a model of NVIDIA Triton Inference Server: ``NAME/config.pbtxt``, the engine's files in ``NAME/1/``.

The configuration is protobuf text of ``inference.ModelConfig`` (github.com/triton-inference-server/common,
protobuf/model_config.proto); which file a backend reads is of the server's "Model Repository" documentation.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeseg import ticket
from edgeseg.artifact import Artifact, load, whole_folder
from edgeseg.errors import InputError
from edgeseg.manifest import Manifest
from edgeseg.spec import TensorSpec

CONFIG, VERSION = "config.pbtxt", "1"
RTX = "tensorrt_rtx"  # of a manifest's toolchain
# By target: Triton's backend, and the engine's files as it looks for them.
BACKENDS = {
    "tensorrt": ("tensorrt", ("model.plan",)),
    "onnxruntime": ("onnxruntime", ("model.onnx",)),
    "openvino": ("openvino", ("model.xml", "model.bin")),
}
TYPES = {
    "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64", "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
    "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64",
}  # fmt: skip
NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


@dataclass(frozen=True)
class Block:
    """A message of protobuf's text format: (field, value) pairs; a value is a Block, a word, a number or text."""

    fields: tuple[tuple[str, Block | Word | int | str], ...]

    def lines(self, indent: str = "") -> Iterator[str]:
        for field, value in self.fields:
            if isinstance(value, Block):
                yield f"{indent}{field} {{"
                yield from value.lines(indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{field}: {quoted(value) if type(value) is str else value}"


class Word(str):
    """The name of an enum's value, which stands without quotes."""


def export(path: str | Path, repository: Path, name: str | None = None, replace: bool = False) -> Path:
    """Write the artifact at ``path`` into the model ``repository`` as ``name`` (its folder's, by default); returns the
    model's folder. The artifact's hashes are checked first.

    Raises:
        ArtifactError: no artifact, or an altered one.
        InputError: a target that Triton has no backend for, a build ticket, a name that is none, a model of that name.
    """
    artifact = load(path)
    manifest = artifact.manifest
    if ticket.is_ticket(manifest):
        raise InputError(f"{path} is a build ticket, no engine yet: run edgeseg finish {path} on its board")
    if manifest.target not in BACKENDS:
        raise InputError(
            f"Triton has no backend for {manifest.target} ({path}): build one of {', '.join(sorted(BACKENDS))}"
        )
    if manifest.unproven is not None:
        raise InputError(
            f"{path} has never met its golden outputs ({manifest.unproven}): prove it first, edgeseg verify"
        )
    if RTX in manifest.toolchain:
        raise InputError(f"{path} is a plan of TensorRT for RTX, which Triton does not load: build it with TensorRT")
    if other := [spec for spec in (*manifest.inputs, *manifest.outputs) if spec.dtype not in TYPES]:
        raise InputError(f"Triton has no type for {other[0].dtype} of '{other[0].name}' ({path})")
    name = name or artifact.path.resolve().name
    if not name or set(name) - NAME or name.startswith("."):
        raise InputError(f"'{name}' is no name of a model: use letters, digits, _, - and .")
    folder = repository / name
    if (folder.exists() or folder.is_symlink()) and not replace:
        raise InputError(f"{folder} is there already: give --name NAME, or --force to replace it")
    with whole_folder(folder) as temporary:
        (temporary / CONFIG).write_text("\n".join(config(manifest, name).lines()) + "\n", encoding="utf-8")
        (temporary / VERSION).mkdir()
        for file in _files(artifact):
            shutil.copyfile(artifact.path / file, temporary / VERSION / file)
    return folder


def config(manifest: Manifest, name: str) -> Block:
    """The ``ModelConfig`` of an engine: full shapes and no batching by the server, since an artifact's are fixed; one
    instance; the classes and the graph's part in the work as parameters, which clients can ask for."""
    backend, files = BACKENDS[manifest.target]
    preprocess = "in the graph: send the camera's RGB frame, uint8, as it is"
    answer = "raw outputs: boxes are the client's part" if _raw(manifest) else "final: no postprocessing is left"
    parameters = {
        "edgeseg.task": manifest.model.task,
        "edgeseg.model": f"{manifest.model.name} {manifest.model.variant}",
        "edgeseg.precision": manifest.precision,
        "edgeseg.classes": json.dumps([c.name for c in manifest.classes], ensure_ascii=False),
        "edgeseg.preprocess": preprocess,
        "edgeseg.answer": answer,
    }
    return Block(
        (
            ("name", name),
            ("backend", backend),
            ("default_model_filename", files[0]),
            ("max_batch_size", 0),
            *(("input", _tensor(spec)) for spec in manifest.inputs),
            *(("output", _tensor(spec)) for spec in manifest.outputs),
            ("version_policy", Block((("latest", Block((("num_versions", 1),))),))),
            ("instance_group", Block((("count", 1), ("kind", Word(_kind(manifest.target)))))),
            *(("parameters", _parameter(key, text)) for key, text in parameters.items()),
        )
    )


def quoted(text: str) -> str:
    """``text`` as a string of protobuf's text format."""
    escaped = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
    return '"' + "".join(escaped.get(c) or (c if c >= " " and c != "\x7f" else f"\\{ord(c):03o}") for c in text) + '"'


def _files(artifact: Artifact) -> tuple[str, ...]:
    files = BACKENDS[artifact.manifest.target][1]
    if missing := [file for file in files if file not in artifact.manifest.files]:
        raise InputError(f"{artifact.path} has no {missing[0]}: build it again")
    return files


def _tensor(spec: TensorSpec) -> Block:
    dims = tuple(("dims", size) for size in spec.shape)
    return Block((("name", spec.name), ("data_type", Word(TYPES[spec.dtype])), *dims))


def _parameter(key: str, text: str) -> Block:
    return Block((("key", key), ("value", Block((("string_value", text),)))))


def _kind(target: str) -> str:
    return "KIND_GPU" if target == "tensorrt" else "KIND_CPU"


def _raw(manifest: Manifest) -> bool:
    return manifest.detection is not None and manifest.detection.nms != "graph"
