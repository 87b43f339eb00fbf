"""``edgeseg finish``: on the board, a TensorRT build ticket to a proven engine. Needs neither PyTorch nor ONNX."""

from __future__ import annotations

import importlib
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from edgeseg import boards, jetson, nvidia, ticket
from edgeseg.artifact import GOLDEN, MANIFEST, Artifact, entries, load, whole_folder
from edgeseg.cli import _bundle
from edgeseg.cli._output import print_json
from edgeseg.cli._progress import progress
from edgeseg.cli._runs import identity
from edgeseg.errors import CheckFailed, InputError
from edgeseg.jetson import Jetson
from edgeseg.manifest import Manifest
from edgeseg.progress import Progress
from edgeseg.selfcheck import selfcheck
from edgeseg.ticket import MIB, PLAN, TIMING_CACHE, Ticket

ROOT = Path("/")
GIB = 1 << 30


def finish(
    bundle: Annotated[Path, typer.Argument(help="Folder that `edgeseg build --for BOARD` made.")],
    workspace: Annotated[
        int | None, typer.Option(metavar="MIB", min=1, help="Memory to try kernels in; as the ticket says by default.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="An engine that trtexec made of this ticket: only prove it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder that receives the artifact; the bundle's by default.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on where board, TensorRT or memory are not as the ticket wants them.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the memory, build with this board's TensorRT, prove the engine, complete its manifest.

    A run that was stopped goes on where it was.
    """
    artifact = load(bundle)
    order = ticket.read(artifact.manifest)
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give --out a folder")
    if not force:
        check_board(order, jetson.detect(ROOT))
    from edgeseg.export import tensorrt

    name, version = tensorrt.package()
    importlib.import_module("edgeseg.runtimes.tensorrt")  # what the proof lacks is told before the build, not after
    if not force:
        check_version(order, version)
    path = (out or bundle.resolve().parent) / finished_name(bundle, order)
    with progress() as bars, _bundle.locked(bundle):
        content = _given(plan) if plan else _built(artifact, order, workspace, force, tensorrt, bars)
        device = _device(order, name, version)
        with bars.task("prove"):
            _complete(artifact, content, device, path)
        _bundle.drop_plan(bundle)
    if json:
        print_json(artifacts=[identity(path)])
    else:
        print(path)


def check_board(order: Ticket, here: Jetson | None) -> None:
    """Raises InputError where this is not the board that the ticket is for."""
    wanted = boards.board(order.board)
    if here is not None and here.board == wanted:
        return
    found = "no Jetson" if here is None else here.board.title if here.board else f"'{here.model}', which is not known"
    raise InputError(
        f"this ticket is for {wanted.title}, this machine is {found}: finish it there, or build a ticket for this one"
        " (--force tries it all the same)"
    )


def check_version(order: Ticket, version: str) -> None:
    """Raises InputError where TensorRT here is of another generation than the ticket's graph was written for."""
    if version.split(".")[0] == str(order.generation[0]):
        return
    raise InputError(
        f"this ticket is for TensorRT {order.tensorrt} of JetPack {order.jetpack}, here is {version}: build it again"
        " with the --jetpack of this board (--force tries it all the same)"
    )


def check_memory(order: Ticket, workspace: int, memory: jetson.Memory | None) -> None:
    """Raises InputError where the build would be killed for want of memory: how much is missing, and what helps.

    Swap counts: other programs and the builder's own copies on the host can go there.
    """
    need = order.needs(workspace)
    if memory is None:
        raise InputError(f"/proc/meminfo does not tell how much of the {_gib(need)} needed is free (--force goes on)")
    missing = need - memory.available - memory.swap
    if missing <= 0:
        return
    smaller = (workspace - missing) // MIB
    hints = [
        "close the desktop (sudo systemctl isolate multi-user.target)",
        "add swap (sudo fallocate -l 4G /swap; sudo chmod 600 /swap; sudo mkswap /swap; sudo swapon /swap)",
        *([f"give --workspace {smaller}"] if smaller >= 1 else []),
    ]
    raise InputError(
        f"the build is estimated to take {_gib(need)} of memory, {_gib(memory.available)} and {_gib(memory.swap)} of"
        f" swap are free, {_gib(missing)} are missing: {', or '.join(hints)} (--force goes on)"
    )


def finished_name(bundle: Path, order: Ticket) -> str:
    """The artifact's name: the bundle's without the board."""
    name = bundle.resolve().name
    return name.replace(f"-for-{order.board}", "") if f"-for-{order.board}" in name else f"{name}-finished"


def _given(plan: Path) -> bytes:
    try:
        content = plan.read_bytes()
    except OSError as error:
        raise InputError(f"no engine at {plan} ({error.strerror})") from None
    if not content:
        raise InputError(f"{plan} is empty: trtexec did not finish it")
    return content


def _built(
    artifact: Artifact, order: Ticket, workspace: int | None, force: bool, tensorrt: ModuleType, bars: Progress
) -> bytes:
    bundle, room = artifact.path, order.workspace if workspace is None else workspace * MIB
    _, version = tensorrt.package()
    files = {name: entry.sha256 for name, entry in artifact.manifest.files.items()}
    key = {"files": files, "tensorrt": version, "dla_core": order.dla_core, "workspace": room}
    if kept := _bundle.kept_plan(bundle, key):
        return kept
    if not force:
        check_memory(order, room, jetson.memory(ROOT))
    cache = order.calibration_cache
    options = tensorrt.BuildOptions(
        workspace_bytes=room,
        timing_cache=bundle / TIMING_CACHE,
        calibration_cache=(bundle / cache).read_bytes() if cache else None,
        dla_core=order.dla_core,
    )
    with bars.task(f"build with TensorRT {version}, which takes minutes and says nothing"):
        content: bytes = tensorrt.build_plan((bundle / ticket.ONNX).read_bytes(), artifact.manifest.precision, options)
    _bundle.keep_plan(bundle, key, content)
    return content


def _device(order: Ticket, package: str, version: str) -> dict[str, Any]:
    """What the manifest says of the board and of its state; what is not known is left out."""
    found = {"compute_capability": nvidia.capability(ROOT), "dla_core": order.dla_core}
    known = {name: value for name, value in found.items() if value is not None}
    return {"package": package, "tensorrt": version, **nvidia.facts(ROOT), **known}


def _complete(artifact: Artifact, plan: bytes, device: dict[str, Any], path: Path) -> None:
    """The artifact at ``path``, once its engine has proved itself; one that fails is thrown away, and its plan too."""
    with whole_folder(path) as folder:
        (folder / PLAN).write_bytes(plan)
        (folder / GOLDEN).write_bytes((artifact.path / GOLDEN).read_bytes())
        manifest = _finished(artifact.manifest, device)
        manifest = replace(manifest, files=entries(folder, [PLAN, GOLDEN]))
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        try:
            selfcheck(folder, path.name)
        except CheckFailed:
            _bundle.drop_plan(artifact.path)
            raise


def _finished(manifest: Manifest, device: dict[str, Any]) -> Manifest:
    return replace(
        manifest,
        device=device,
        unproven=None,
        toolchain={**manifest.toolchain, device["package"]: device["tensorrt"]},
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        extra={name: value for name, value in manifest.extra.items() if name != ticket.KEY},
    )


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
