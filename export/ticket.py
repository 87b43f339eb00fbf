"""A build ticket: all of a TensorRT build that needs no GPU, in a folder that a Jetson turns into an engine.

TensorRT makes engines for the GPU it runs on. So a machine without one prepares the graph in the form that the board's
TensorRT reads, the golden outputs and the scales; ``edgeseg finish`` does the rest on the board.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import onnx_ir as ir

from edgeseg import boards
from edgeseg.artifact import whole_folder
from edgeseg.boards import Board, JetPack
from edgeseg.errors import InputError
from edgeseg.export import _memory, _targets, calibration_cache, preflight, tensorrt_graph, trtexec
from edgeseg.export._build import ONNX_FOLDER, BuildRequest, Calibrated, _Build, _keep_onnx, _write
from edgeseg.export._tasks import Tensors
from edgeseg.export.tensorrt import FLOAT_MARK
from edgeseg.progress import Progress, Silent
from edgeseg.spec import PRECISIONS
from edgeseg.ticket import CACHE, MIB, ONNX, PLAN, Ticket, write

TARGET = "tensorrt"
WORKSPACE = 512 * MIB
README = "README.txt"
STRONGLY_TYPED = (11, 0)  # from here on scales stand in the graph for DLA too
PYTHON = (3, 10)


@dataclass(frozen=True)
class Place:
    """Where an engine is to run: a DLA core, or the GPU."""

    board: Board
    jetpack: JetPack
    dla_core: int | None

    @property
    def cached_scales(self) -> bool:
        """Whether int8 scales go into a calibration cache: DLA reads none from the graph before TensorRT 11."""
        return self.dla_core is not None and self.jetpack.generation < STRONGLY_TYPED


def place(board: str, jetpack: str | None = None, dla_core: int | None = None) -> Place:
    """Raises InputError for a board, a JetPack or a core that is none."""
    found = boards.board(board)
    pack = boards.jetpack(found, jetpack)
    if dla_core is not None:
        if not found.dla:
            raise InputError(f"{found.title} has no DLA: leave out --dla")
        if not 0 <= dla_core < found.dla:
            raise InputError(f"{found.title} has DLA cores 0 to {found.dla - 1}, not {dla_core}")
        if not pack.dla or (pack.generation >= STRONGLY_TYPED and found.name != "agx-orin"):
            raise InputError(
                f"TensorRT {pack.tensorrt} of JetPack {pack.version} does not compile for {found.title}'s DLA: give"
                " another --jetpack, or leave out --dla"
            )
    return Place(found, pack, dla_core)


def build_tickets(request: BuildRequest, where: Place, progress: Progress | None = None) -> list[Path]:
    """One bundle for each precision; returns their folders.

    Raises:
        InputError: a wrong part of the request, or a node that the board's TensorRT does not take, each named.
    """
    if request.targets != (TARGET,):
        raise InputError(f"a ticket for {where.board.title} is a TensorRT build: give --target {TARGET} alone")
    if where.dla_core is not None and "fp32" in request.precisions:
        raise InputError("DLA computes in fp16 and int8: give --precision fp16 or int8")
    return list(_Tickets(request, where, progress or Silent()).run())


class _Form:
    """What the builder of artifacts asks of a target, where there is nothing to compile yet."""

    PRECISIONS = PRECISIONS

    def toolchain(self) -> dict[str, str]:
        return {}

    def weight_levels(self) -> int:
        return 127


class _Tickets(_Build):
    def __init__(self, request: BuildRequest, where: Place, progress: Progress) -> None:
        self.where = where
        super().__init__(request, progress)

    def _load_targets(self) -> list[tuple[str, str, _targets.Target]]:
        form = cast(_targets.Target, _Form())
        return [(TARGET, precision, form) for precision in self.request.precisions]

    def _runs_here(self, target: _targets.Target) -> bool:
        return False

    def _calibrated(self, graph: ir.Model) -> Calibrated:
        found = super()._calibrated(graph)
        self.float_graph = found.graph
        return found

    def _artifact(
        self, name: str, precision: str, target: _targets.Target, model: ir.Model,
        expected: Tensors, calibration: dict[str, Any] | None,
    ) -> Path:  # fmt: skip
        onnx_bytes = ir.to_proto(model).SerializeToString(deterministic=True)
        digest = hashlib.sha256(onnx_bytes).hexdigest()
        manifest = self._manifest(name, precision, target, model, expected, calibration, digest)
        manifest = replace(
            manifest, unproven=f"a build ticket: edgeseg finish makes its engine on {self.where.board.title}"
        )
        cached = precision == "int8" and self.where.cached_scales
        generation = preflight.generation(TARGET, self.where.jetpack.tensorrt)
        form = tensorrt_graph.prepare(self.float_graph if cached else model, precision, generation)
        ticket = self._ticket(form, CACHE if cached else None)
        path = self.request.out / self._folder(name, precision)
        with whole_folder(path) as folder:
            (folder / ONNX).write_bytes(tensorrt_graph.to_bytes(form))
            if cached:
                scales = tensorrt_graph.scales(self.float_graph, model)
                (folder / CACHE).write_bytes(calibration_cache.write(scales, ticket.tensorrt))
            _write(folder, write(manifest, ticket), [ONNX, *([CACHE] if cached else [])], expected)
            (folder / README).write_text(_readme(path.name, precision, ticket, form, self.where), encoding="utf-8")
        _keep_onnx(self.request.out / ONNX_FOLDER, digest, onnx_bytes)
        return path

    def _ticket(self, form: ir.Model, cache: str | None) -> Ticket:
        board, jetpack = self.where.board, self.where.jetpack
        memory = _memory.estimate(form)
        return Ticket(board.name, jetpack.version, jetpack.tensorrt, self.where.dla_core, cache, WORKSPACE, memory)

    def _folder(self, target: str, precision: str) -> str:
        core = "" if self.where.dla_core is None else f"-dla{self.where.dla_core}"
        return f"{super()._folder(target, precision)}-for-{self.where.board.name}{core}"


def _readme(name: str, precision: str, ticket: Ticket, form: ir.Model, where: Place) -> str:
    keep = [str(node.name) for node in form.graph if str(node.name).endswith(FLOAT_MARK)]
    pack = where.jetpack
    finish = f"""On the board, with Python {pack.python} and JetPack's TensorRT, beside this folder:

  edgeseg finish {name}

It checks the memory first, builds the engine, proves it with golden.npz and leaves it beside this folder. If it is
stopped, the same command goes on where it was.
"""
    tool = f"""TensorRT's own tool makes the engine without Python, in this folder:

  {trtexec.line(ticket, precision, keep)}
"""
    proof = f"""
Then, to prove it and to complete its manifest, beside this folder:

  edgeseg finish {name} --plan {name}/{PLAN}
"""
    old = f"""
edgeseg needs Python {".".join(map(str, PYTHON))}. JetPack {pack.version} has {pack.python}, for which its bindings of
TensorRT are made. Where you have bindings for a newer Python, edgeseg finish works too.
"""
    fits = tuple(int(n) for n in pack.python.split(".")) >= PYTHON
    parts = [finish, "\n", tool, proof] if fits else [tool, old, proof]
    head = f"""{name}

A TensorRT build that waits for its board: {where.board.title}, JetPack {pack.version} (TensorRT {pack.tensorrt}).
It is no engine yet.

"""
    return head + "".join(parts) + "\nedgeseg's docs/jetson.md walks through it.\n"
