"""``model.plan``: does it fit this TensorRT and this GPU, and does it hold what the manifest says?"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from edgeseg.errors import ArtifactError, DeviceError, MissingExtra
from edgeseg.manifest import Manifest
from edgeseg.runtimes._tensorrt.context import Device
from edgeseg.runtimes._tensorrt.driver import Driver, first_line
from edgeseg.spec import TensorSpec

FILE = "model.plan"
PACKAGES = {
    "tensorrt": "TensorRT{version} for Python ({error}; a Jetson's comes with JetPack: sudo apt install"
    " python3-libnvinfer, seen by a virtual environment made with --system-site-packages; elsewhere: pip install"
    " tensorrt{pin}, which fetches its libraries from NVIDIA)",
    "tensorrt_rtx": "TensorRT for RTX{version} ({error}; pip install tensorrt-rtx-cu12{pin})",
}
DTYPES = {"float": "float32", "half": "float16"}  # others are spelled as NumPy's


def package(manifest: Manifest) -> str:
    """The Python package that opens the plan.

    Raises:
        ArtifactError: none that is known here; the name comes from the artifact and is imported.
    """
    name = str(_device(manifest).get("package", "tensorrt"))
    if name not in PACKAGES:
        raise ArtifactError(f"manifest.json wants package '{name}', not one of {', '.join(PACKAGES)}: update edgeseg")
    return name


def missing(manifest: Manifest, error: BaseException) -> MissingExtra:
    """The error that says how to get TensorRT."""
    version = _device(manifest).get("tensorrt")
    what = PACKAGES[package(manifest)].format(
        version=f" {version}" if version else "", pin=f"=={version}" if version else "", error=first_line(error)
    )
    return MissingExtra("target tensorrt", f"{what}, and cuda-python", "tensorrt")


def check(manifest: Manifest, version: str, device: Device) -> None:
    """Is this the TensorRT, and the kind of GPU, that the plan was built for? What the manifest does not say is
    left to TensorRT.

    Raises:
        ArtifactError: no.
    """
    built = _device(manifest)
    made_with, made_for = built.get("tensorrt"), built.get("compute_capability")
    if made_with and not built.get("version_compatible") and not _same_release(str(made_with), version):
        raise ArtifactError(
            f"{FILE} was built with TensorRT {made_with}, here is {version}: build it with {version}, or install"
            f" {made_with}"
        )
    capabilities = [str(one) for one in (made_for if isinstance(made_for, list) else [made_for])]
    if made_for and not built.get("hardware_compatible") and device.capability not in capabilities:
        raise ArtifactError(
            f"{FILE} was built for compute capability {' or '.join(capabilities)}, {device.name} has"
            f" {device.capability}: build it on this GPU or for {device.capability}"
        )


def _device(manifest: Manifest) -> dict[str, Any]:
    return manifest.device or {}


def _same_release(one: str, other: str) -> bool:
    """By major, minor and patch, as far as both are known; packages of one release differ in what follows."""
    return all(a == b for a, b in zip(one.split(".")[:3], other.split("."), strict=False))


class Plan:
    """The deserialized engine. To be made, used and dropped with the CUDA context current.

    Raises:
        ArtifactError: TensorRT refuses the file, or it holds other tensors than the manifest says.
    """

    def __init__(self, trt: Any, driver: Driver, folder: Path, manifest: Manifest) -> None:
        self._driver = driver
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        self._log = _log(trt)
        self.engine: Any = None
        self._runtime: Any = trt.Runtime(self._log)
        try:
            self._open(trt, folder, manifest)
        except BaseException:
            self.close()
            raise

    def _open(self, trt: Any, folder: Path, manifest: Manifest) -> None:
        if (core := _device(manifest).get("dla_core")) is not None:
            self._runtime.DLA_core = core
        if _device(manifest).get("version_compatible"):
            # Such a plan carries the lean runtime of the TensorRT that made it, which is code for the CPU.
            self._runtime.engine_host_code_allowed = True
        try:
            content = (folder / FILE).read_bytes()
        except OSError as error:
            raise ArtifactError(f"{folder}: {FILE} cannot be read ({error}): build the artifact again") from None
        reasons = _invalid(trt, self._runtime, content)
        if reasons is not None:
            why = ", ".join(reasons) or self.complaint()
            raise ArtifactError(f"{folder}: {FILE} is not for this machine: {why}; build it here")
        self.engine = self._runtime.deserialize_cuda_engine(content)
        if self.engine is None:
            raise ArtifactError(f"{folder}: TensorRT does not take {FILE}: {self.complaint()}; build it again here")
        self._check_tensors(folder)

    def _check_tensors(self, folder: Path) -> None:
        found = {}
        for name in map(self.engine.get_tensor_name, range(self.engine.num_io_tensors)):
            dtype = self.engine.get_tensor_dtype(name).name.lower()
            spec = TensorSpec(name, tuple(self.engine.get_tensor_shape(name)), DTYPES.get(dtype, dtype))
            found[name] = (self.engine.get_tensor_mode(name).name, spec)
        said = {spec.name: ("INPUT", spec) for spec in self.inputs}
        said |= {spec.name: ("OUTPUT", spec) for spec in self.outputs}
        for name in sorted(found.keys() | said.keys()):
            if found.get(name) != said.get(name):
                texts = [_text(where.get(name)) for where in (found, said)]
                raise ArtifactError(
                    f"{folder}: '{name}' is {texts[0]} in {FILE} and {texts[1]} in manifest.json: build it again"
                )

    def execution(self) -> Any:
        """A new execution context. Raises DeviceError: no memory."""
        made = self.engine.create_execution_context()
        if made is None:
            sizes = (getattr(self.engine, name, 0) for name in ("device_memory_size_v2", "device_memory_size"))
            need = max(sizes)
            raise DeviceError(
                f"TensorRT makes no execution context, for which it needs {need / 1e6:.0f} MB of GPU memory"
                f"{self._driver.room()}: {self.complaint()}; close what else uses the GPU, or open the artifact with"
                " fewer threads"
            )
        return made

    def complaint(self) -> str:
        """The last error that TensorRT logged."""
        return self._log.errors[-1] if self._log.errors else "it gives no reason"

    def close(self) -> None:
        self.engine = self._runtime = None


def _text(found: tuple[str, TensorSpec] | None) -> str:
    return "absent" if found is None else f"{found[0].lower()} {found[1].dtype} {list(found[1].shape)}"


def _log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps TensorRT's last errors, which its calls do not raise."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=1)

        def log(self, severity: Any, message: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                self.errors.append(" ".join(message.split()))

    return Log()


def _invalid(trt: Any, runtime: Any, content: bytes) -> list[str] | None:
    """Why TensorRT holds the plan to be invalid here, in its own words; None where it does not, or cannot tell."""
    if not hasattr(runtime, "get_engine_validity"):
        return None
    validity, diagnostics = runtime.get_engine_validity(content)
    if validity.name != "INVALID":
        return None
    bits = trt.EngineInvalidityDiagnostics.__members__
    return [name for name, bit in bits.items() if int(bit) & int(diagnostics)]
