"""What a robot installs: for each extra the project's wheel in a clean environment, an artifact opened there with its
golden self-test, the installed megabytes, and the seconds that the import takes.

    python -m tests.scripts.slim [--python PYTHON] [--work DIR] [EXTRA…]

prints the table of docs/robots.md. The artifacts are the demo's ENet, built first by this environment."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeseg.export import BuildRequest, build

ROOT = Path(__file__).parents[2]
EXTRAS = {"tflite": "ai-edge-litert", "openvino": "openvino", "onnxruntime": "onnxruntime"}  # the vendor's package
# None of these can be imported while the artifact runs; the first are not even installed.
HIDDEN = ("torch", "onnx", "matplotlib", "cv2", "typer", "rich", "PIL")
ABSENT = HIDDEN[:4]
IMPORTS = 9  # fresh processes, whose median is told
MB = 1e6

LIST = """
import importlib.metadata as m, json, sys
sizes = {d.name.lower().replace("_", "-"): sum(f.locate().stat().st_size for f in d.files) for d in m.distributions()}
print(json.dumps({"sizes": sizes, "python": sys.version.split()[0]}))
"""
IMPORT = """
import time
wall, cpu = time.perf_counter(), time.thread_time()
import edgeseg.runtimes
print(time.perf_counter() - wall, time.thread_time() - cpu)
"""
SELFTEST = f"""
import sys
sys.modules.update(dict.fromkeys({HIDDEN!r}))
from edgeseg.runtimes.__main__ import main
sys.exit(main(sys.argv[1]))
"""


class CannotInstall(Exception):
    """pip could not; its last line says why."""


@dataclass(frozen=True)
class Slim:
    """``packages``: megabytes of each package, edgeseg's among them, without bytecode; ``import_s``: the median of
    ``IMPORTS`` processes for ``edgeseg.runtimes`` with NumPy; ``import_cpu_s``: the importing thread's CPU seconds
    in the quickest of them, without NumPy's other threads, which only spin, and little disturbed by other work;
    ``selftest``: what the golden frame gave."""

    extra: str
    python: str
    packages: dict[str, float]
    import_s: float
    import_cpu_s: float
    selftest: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.packages.values())

    def row(self) -> str:
        ours, vendor = self.packages["edgeseg"], self.packages[EXTRAS[self.extra]]
        rest = self.total - ours - vendor
        labels = self.selftest["labels"]
        sizes = " | ".join(f"{size:.0f} MB" for size in (ours, vendor, rest, self.total))
        return f"| `{self.extra}` | {self.python} | {sizes} | {self.import_s:.2f} s | {labels:.4g} |"


def make_wheel(out: Path) -> Path:
    """The wheel of this checkout, made from a copy of the files that git tracks or would track."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in project_files():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
        _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)])
    (wheel,) = out.glob("edgeseg-*.whl")
    return wheel


def project_files() -> list[str]:
    """Files that git tracks, or would track if they were added."""
    listed = _run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"])
    return [name for name in listed.splitlines() if (ROOT / name).exists()]


def measure(extra: str, wheel: Path, artifact: Path, work: Path, python: str = sys.executable) -> Slim:
    """An environment of ``python`` in ``work`` with ``wheel[extra]`` alone, and what it does with ``artifact``.

    Raises:
        CannotInstall: pip could not. RuntimeError: something failed in the environment.
    """
    _run([python, "-m", "venv", "--clear", "--without-pip", str(work / extra)])
    inside = str(work / extra / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", inside, "install", "--quiet", "--no-compile"]
    done = subprocess.run(
        [*pip, "-c", str(ROOT / "constraints.txt"), f"{wheel}[{extra}]"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotInstall(done.stderr.strip().rpartition("\n")[2])
    found = json.loads(_run([inside, "-c", LIST]))
    selftest = json.loads(_run([inside, "-c", SELFTEST, str(artifact)]))
    times = [[float(t) for t in _run([inside, "-c", IMPORT]).split()] for _ in range(IMPORTS)]
    wall, cpu = zip(*times, strict=True)
    sizes = {name: size / MB for name, size in found["sizes"].items()}
    return Slim(extra, found["python"], sizes, statistics.median(wall), min(cpu), selftest)


def _run(command: list[str]) -> str:
    """Its stdout; what it said on stderr is part of the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT.anchor)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} … gave {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help=f"of {', '.join(EXTRAS)}; all of them unless given")
    parser.add_argument("--python", default=sys.executable, help="the Python of the environments")
    parser.add_argument("--work", type=Path, help="folder that keeps the environments")
    asked = parser.parse_args()
    extras = tuple(asked.extras or EXTRAS)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        request = BuildRequest("enet", size=(240, 320), targets=extras, precisions=("fp32",), out=work / "artifacts")
        artifacts = dict(zip(extras, build(request), strict=True))
        wheel = make_wheel(work)
        print("| extra | Python | edgeseg | the vendor's | the rest | total | import | labels |")
        print("|---|---|---|---|---|---|---|---|")
        for extra in extras:
            found = measure(extra, wheel, artifacts[extra], asked.work or work, asked.python)
            print(found.row(), flush=True)
            print(f"  {', '.join(f'{n} {mb:.1f}' for n, mb in sorted(found.packages.items()))}", file=sys.stderr)


if __name__ == "__main__":
    main()
