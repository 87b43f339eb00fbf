"""Malformed frames, manifests and artifact files: ``python -m tests.scripts.fuzz ARTIFACT --count 100000``.

Each is refused in one line (InputError, which is a ValueError, or ArtifactError), or is well formed after all and
answered. Opening files is watched: nothing but the folder's own files is opened. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.artifact import GOLDEN, MANIFEST, load, sha256
from edgeseg.errors import ArtifactError, InputError
from edgeseg.frames import ENCODINGS
from edgeseg.runtimes import Engine, open_artifact

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, float("nan"), float("inf"), "", "x", "\0", "\ud800",
    "../evil", "/etc/passwd", "a" * 5000, [], [[]], {}, [None], [1, 2, 3], [1e9, 1e9], {"a": {}},
]  # fmt: skip
NAMES = ["../outside", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "x" * 300, "\0", "model.\ud800", "manifest.json"]


def frame(engine: Engine, rng: random.Random) -> Callable[[], Any]:
    """A call with a frame that is mostly none."""
    height, width = engine.manifest.frame
    shapes = [
        (height, width, 3),
        (width, height, 3),
        (height, width),
        (0, 0, 3),
        (1, 1, 3),
        (height, width, 4),
        (),
        (7,),
    ]
    dtypes = ["uint8", "int8", "uint16", "float32", "float64", "bool", "complex64", "O", "S3", "M8[s]"]
    shape = rng.choice([*shapes, tuple(rng.randrange(0, 9) for _ in range(rng.randrange(0, 6)))])
    array: Any = np.zeros(shape, rng.choice(dtypes))
    kind = rng.randrange(6)
    if kind == 0:
        array = rng.choice([None, 3, "frame", b"frame", [1, 2], [[[0, 0, 0]]], {}, object(), memoryview(b"abc")])
    elif kind == 1:
        array = np.broadcast_to(np.uint8(1), (rng.choice([0, 1, 10**5, 2**40]), rng.choice([1, 10**5, 2**20]), 3))
    elif kind == 2 and array.ndim:
        array = array[:: rng.choice([-1, 2])]
    encoding: Any = rng.choice([*ENCODINGS, "rgb8", "rgb8", "jpeg", None, 3, []])
    resize = rng.random() < 0.5
    out: Any = rng.choice([None, None, np.zeros((height, width), np.uint8), np.zeros(3), "out", array])
    if rng.random() < 0.3:
        feeds: Any = rng.choice([{"frame": array}, {"image": array}, {}, None, [1], {3: array}])
        return lambda: engine.run(feeds)
    return lambda: engine.segment(array, encoding=encoding, resize=resize, out=out)


def places(node: Any) -> list[tuple[Any, Any]]:
    """Each (container, key) of a JSON document."""
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []
    return [place for key, value in inside for place in [(node, key), *places(value)]]


def manifest(text: str, rng: random.Random) -> bytes:
    """A manifest with something wrong."""
    kind = rng.randrange(5)
    if kind == 0:
        return text.encode()[: rng.randrange(len(text))]
    if kind == 1:
        return flipped(text.encode(), rng)
    document = json.loads(text)
    for _ in range(rng.choice([1, 1, 2, 5])):
        container, key = rng.choice(places(document))
        if rng.random() < 0.3:
            del container[key]
        else:
            container[key] = copy.deepcopy(rng.choice(VALUES))  # which a later change may go into
    if kind == 2 and isinstance(document.get("files"), dict):
        document["files"][rng.choice(NAMES)] = {"sha256": "0" * 64, "bytes": rng.choice([0, 1, 2**62])}
    return json.dumps(document).encode()


def flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 4, 64])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damage(folder: Path, rng: random.Random) -> None:
    """Something wrong with one of the files; the manifest's hashes follow it in one case of three."""
    files = sorted(p for p in folder.iterdir())
    victim = rng.choice(files)
    content = victim.read_bytes()
    kind = rng.randrange(8)
    if kind == 0:
        victim.write_bytes(content[: rng.randrange(len(content) or 1)])
    elif kind == 1:
        victim.write_bytes(flipped(content, rng))
    elif kind == 2:
        other = rng.choice(files)
        victim.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif kind == 3:
        victim.unlink()
        outside = ["/etc/passwd", "../outside", "/dev/zero", str(folder.parent / "outside" / victim.name)]
        victim.symlink_to(rng.choice(outside))
    elif kind == 4:
        victim.unlink()
        becomes = rng.choice(["folder", "pipe", "nothing"])
        if becomes == "folder":
            victim.mkdir()
        elif becomes == "pipe":
            os.mkfifo(victim)
    elif kind == 5:
        with victim.open("ab") as stream:
            stream.truncate(rng.choice([2**40, len(content) + 1]))  # sparse
    elif kind == 6:
        (folder / rng.choice(["model.bin", "model.onnx.data", GOLDEN])).write_bytes(b"not listed" * 9)
    else:
        (folder / MANIFEST).write_bytes(manifest((folder / MANIFEST).read_text(encoding="utf-8"), rng))
    if rng.random() < 0.33 and victim.name == GOLDEN and victim.is_file() and not victim.is_symlink() and kind < 3:
        text = json.loads((folder / MANIFEST).read_text(encoding="utf-8", errors="replace") if kind != 2 else "{}")
        if isinstance(text.get("files"), dict):
            text["files"][GOLDEN] = {"sha256": sha256(victim), "bytes": victim.stat().st_size}
            (folder / MANIFEST).write_text(json.dumps(text), encoding="utf-8")


class Watch:
    """Which paths were opened while ``folder`` is set, besides its own."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.outside: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is not None and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if not path.startswith(self.folder + os.sep):
                self.outside.append(path)


def fuzz(artifact: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """``count`` cases in equal parts; raises where one is not refused as it must be."""
    rng, seen, watch = random.Random(seed), Counter[str](), Watch()
    source = load(artifact)
    text = (artifact / MANIFEST).read_text(encoding="utf-8")
    with open_artifact(artifact) as engine, tempfile.TemporaryDirectory() as temporary:
        for number in range(count):
            kind = ("frame", "manifest", "files")[number % 3]
            folder = Path(temporary) / "artifact"
            if kind == "frame":
                call = frame(engine, rng)
            else:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                for name in (MANIFEST, *source.manifest.files):
                    shutil.copy(artifact / name, folder / name)
                if kind == "manifest":
                    (folder / MANIFEST).write_bytes(manifest(text, rng))
                else:
                    damage(folder, rng)
                watch.folder = os.path.abspath(folder)

                def call(folder: Path = folder) -> Any:
                    opened = load(folder)
                    Engine(opened.manifest, NOTHING)
                    return opened.golden()

            try:
                call()
                seen[f"{kind}: answered"] += 1
            except (InputError, ArtifactError) as error:
                line = str(error)
                assert "\n" not in line and line.encode(), f"case {number}: {line!r}"
                seen[f"{kind}: {type(error).__name__}"] += 1
            except BaseException:
                print(f"case {number} of seed {seed}", file=sys.stderr)
                raise
            finally:
                watch.folder = None
        assert not watch.outside, f"opened outside of the folder: {watch.outside[:3]}"
    return {"count": count, "seed": seed, **dict(sorted(seen.items()))}


class _Nothing:
    """No runtime: manifests and files are under test here, vendors' parsers elsewhere."""

    def run(self, feeds: Any, out: Any = None) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        return


NOTHING = _Nothing()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(json.dumps(fuzz(given.artifact, given.count, given.seed), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
