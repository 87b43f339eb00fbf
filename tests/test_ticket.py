"""Build tickets: a real network for each board, generation and precision, proved as far as it goes without a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgeseg import ticket
from edgeseg.artifact import Artifact, load
from edgeseg.boards import BOARDS, JETPACKS, LEAST
from edgeseg.cli import main
from edgeseg.errors import InputError
from edgeseg.export import BuildRequest, _memory, calibration_cache, preflight, tensorrt, trtexec
from edgeseg.export.ticket import Place, build_tickets, place
from edgeseg.runtimes._runtime import Feeds, Outputs
from edgeseg.runtimes._selftest import selftest
from edgeseg.spec import PRECISIONS
from edgeseg.ticket import Ticket

SIZE, DATA = (64, 96), "streets:4@64x96:val"
SERVED = [j for j in JETPACKS if j.generation >= LEAST]
# Each board with its newest JetPack, the other JetPacks on a board that takes them, and DLA with and without its cache.
PLACES: set[tuple[str, str, int | None]] = {
    (b.name, b.jetpacks[-1], None) for b in BOARDS if b.jetpacks[-1] in {j.version for j in SERVED}
}
PLACES |= {("agx-orin", "6.0", None), ("agx-orin", "6.2", None), ("thor", "7.1", None)}
PLACES |= {("xavier-nx", "5.1", 1), ("agx-orin", "6.2", 0), ("agx-orin", "7.2.2", 0)}


@dataclass(frozen=True)
class Made:
    """The tickets of one place, by precision."""

    where: Place
    bundles: dict[str, Path]

    def artifact(self, precision: str) -> Artifact:
        return load(self.bundles[precision])

    def graph(self, precision: str) -> ir.Model:
        return ir.load(self.bundles[precision] / ticket.ONNX)


@pytest.fixture(scope="module", params=sorted(PLACES, key=str), ids=lambda p: "-".join(map(str, p)))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    where = place(*request.param)
    precisions = PRECISIONS if where.dla_core is None else PRECISIONS[1:]
    asked = BuildRequest(
        "enet",
        size=SIZE,
        targets=("tensorrt",),
        precisions=precisions,
        data=DATA,
        calib_images=4,
        out=tmp_path_factory.mktemp("tickets"),
    )
    return Made(where, dict(zip(precisions, build_tickets(asked, where), strict=True)))


def test_every_board_and_every_jetpack_has_a_place() -> None:
    assert {board for board, _, _ in PLACES} == {b.name for b in BOARDS if b.name not in ("nano", "tx2")}
    assert {version for _, version, _ in PLACES} == {j.version for j in SERVED}


def test_a_bundle_is_whole_and_says_what_it_waits_for(made: Made) -> None:
    for precision, path in made.bundles.items():
        core = "" if made.where.dla_core is None else f"-dla{made.where.dla_core}"
        assert path.name == f"enet-64x96-tensorrt-{precision}-for-{made.where.board.name}{core}"
        manifest = made.artifact(precision).manifest
        cached = precision == "int8" and made.where.cached_scales
        files = {"model.onnx", "golden.npz", *(["calibration.cache"] if cached else [])}
        assert set(manifest.files) == files
        assert {p.name for p in path.iterdir()} == files | {"manifest.json", "README.txt"}
        order = ticket.read(manifest)
        assert (order.board, order.tensorrt) == (made.where.board.name, made.where.jetpack.tensorrt)
        assert (order.dla_core, order.calibration_cache is not None) == (made.where.dla_core, cached)
        assert (manifest.target, manifest.device) == ("tensorrt", None)
        assert manifest.unproven == f"a build ticket: edgeseg finish makes its engine on {made.where.board.title}"
        assert (path.parent / "onnx" / f"{manifest.onnx_sha256}.onnx").exists()


def test_the_graph_is_one_that_the_generation_takes(made: Made) -> None:
    generation = preflight.generation("tensorrt", made.where.jetpack.tensorrt)
    for precision in made.bundles:
        graph = made.graph(precision)
        assert preflight.check(graph, generation) == []
        scaled = any(node.op_type == "QuantizeLinear" for node in graph.graph)
        assert scaled == (precision == "int8" and not made.where.cached_scales)


def test_the_graph_gives_the_golden_outputs(made: Made) -> None:
    """In ONNX Runtime, with nothing fused: what was lowered for the board is still the network."""
    for precision, path in made.bundles.items():
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(path / ticket.ONNX, options, providers=["CPUExecutionProvider"])
        assert selftest(runner(session), made.artifact(precision))["labels"] > 0.9


def runner(session: ort.InferenceSession) -> Callable[[Feeds], Outputs]:
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def test_the_cache_names_tensors_of_the_graph(made: Made) -> None:
    path = made.bundles["int8"] / ticket.CACHE
    assert path.exists() == made.where.cached_scales
    if path.exists():
        scales = calibration_cache.read(path.read_bytes())
        tensors = {str(v.name) for node in made.graph("int8").graph for v in node.outputs}
        assert set(scales) <= tensors
        assert len(scales) > len(tensors) / 3


def test_the_note_holds_the_commands(made: Made) -> None:
    for precision, path in made.bundles.items():
        note = (path / "README.txt").read_text()
        assert trtexec.line(ticket.read(load(path).manifest), precision) in note
        assert f"edgeseg finish {path.name}" in note
        assert ("edgeseg needs Python 3.10" in note) == (made.where.jetpack.version == "5.1")
        assert "[" not in note


def test_nvidias_parser_and_builder_take_the_graph(made: Made) -> None:
    """TensorRT for RTX stands for TensorRT 11: both take their types from the graph alone."""
    pytest.importorskip("tensorrt_rtx")
    if made.where.jetpack.generation < (11, 0):
        pytest.skip("this generation's graph is not strongly typed")
    for precision, path in made.bundles.items():
        options = tensorrt.BuildOptions(compute_capability="8.6")
        assert len(tensorrt.build_plan((path / ticket.ONNX).read_bytes(), precision, options)) > 10_000


def order(tensorrt: str, cache: str | None = None, core: int | None = None) -> Ticket:
    return Ticket("agx-orin", "", tensorrt, core, cache, 256 * ticket.MIB, {})


FOLDER = "/usr/src/tensorrt/bin/"
START = "trtexec --onnx=model.onnx --saveEngine=model.plan --memPoolSize=workspace:256 --timingCacheFile=timing.cache"


@pytest.mark.parametrize(
    ("given", "precision", "rest"),
    [
        (order("8.5.2"), "fp32", "--buildOnly --noTF32"),
        (order("8.5.2"), "int8", "--buildOnly --int8 --fp16"),
        (order("8.6.2"), "fp16", "--skipInference --fp16"),
        (order("10.3.0"), "int8", "--skipInference --int8 --fp16"),
        (
            order("10.3.0", "calibration.cache", 1),
            "int8",
            "--skipInference --int8 --fp16 --calib=calibration.cache --useDLACore=1 --allowGPUFallback",
        ),
        (order("10.16.2"), "fp16", "--skipInference --fp16"),
        (order("11.4.1"), "fp16", "--skipInference"),
        (order("11.4.1", None, 0), "int8", "--skipInference --useDLACore=0 --allowGPUFallback"),
    ],
)
def test_trtexec_by_generation(given: Ticket, precision: str, rest: str) -> None:
    folder = "" if given.generation >= (10, 16) else FOLDER
    assert trtexec.line(given, precision) == f"{folder}{START} {rest}"


def test_trtexec_keeps_what_would_overflow_in_float32() -> None:
    kept = trtexec.line(order("10.3.0"), "fp16", ["/a/Conv_in_float32", "mean of it"]).partition("--precision")[2]
    spec = "/a/Conv_in_float32:fp32,mean of it:fp32"
    assert kept == f"Constraints=obey '--layerPrecisions={spec}' '--layerOutputTypes={spec}'"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("orin-nano", None, 0), "Jetson Orin Nano has no DLA: leave out --dla"),
        (("orin-nx", "6", 2), "Jetson Orin NX has DLA cores 0 to 1, not 2"),
        (("orin-nx", None, 0), "TensorRT 10.16.2 of JetPack 7.2 does not compile for Jetson Orin NX's DLA"),
        (("nano", None, None), "TensorRT 8.2.1, which takes no uint8 frames"),
    ],
)
def test_a_place_that_is_none(where: tuple[str, str | None, int | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        place(*where)


def test_memory_is_counted_by_what_is_alive(made: Made) -> None:
    found = _memory.estimate(made.graph("fp16"))
    size = (made.bundles["fp16"] / ticket.ONNX).stat().st_size
    assert 0.8 * size < found["weights"] / _memory.COPIES < size
    frame = 64 * 96 * 3
    assert found["activations"] / _memory.BUFFERS > 4 * frame
    assert found["activations"] < 100 * 4 * frame


BUILD = ("build", "enet", "--size", "64x96")
BAD = {
    "another target": (("--for", "orin-nx", "--target", "openvino"), "give --target tensorrt alone"),
    "fp32 on DLA": (("--for", "agx-orin", "--jetpack", "6", "--dla", "0"), "DLA computes in fp16 and int8"),
    "no board": (("--dla", "0"), "--jetpack and --dla are of a board: give --for BOARD as well"),
    "unknown board": (("--for", "orin"), "unknown board 'orin': use one of orin-nano, orin-nx, agx-orin, thor"),
    "unknown JetPack": (("--for", "thor", "--jetpack", "8"), "Jetson Thor takes no JetPack '8'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options, message = BAD[case]
    with pytest.raises(SystemExit) as caught:
        main([*BUILD, "--out", str(tmp_path / "out"), *options])
    out, err = capfd.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "out").exists()


def test_the_command_line_leaves_a_ticket(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*BUILD, "--for", "orin-nano", "--jetpack", "6.2", "--out", str(tmp_path), "--json"])
    out, err = capfd.readouterr()
    assert caught.value.code == 0, err
    (found,) = json.loads(out)["artifacts"]
    assert found["artifact"] == str(tmp_path / "enet-64x96-tensorrt-fp32-for-orin-nano")
    assert "a build ticket" in found["unproven"]
    assert "not proven" not in err
