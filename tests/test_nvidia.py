"""What is read of a machine's NVIDIA parts, on trees of files as such machines have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg import jetson, nvidia

PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version: 12\n"
)
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"proc/driver/nvidia/version": PROPRIETARY}, "535.183.01"),
        ({"proc/driver/nvidia/version": OPEN}, "570.86.15"),
        ({"sys/module/nvidia/version": "540.4.0\n"}, "540.4.0"),
        ({"proc/driver/nvidia/version": "nonsense"}, None),
        ({}, None),
    ],
)
def test_driver(files: dict[str, str], version: str | None, tmp_path: Path) -> None:
    root = tree(tmp_path, files)
    assert nvidia.driver(root) == version
    assert nvidia.present(root) == (version is not None)
    assert nvidia.facts(root) == ({"driver": version} if version else {})


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.68"}}'}, "12.6.68"),
        ({"usr/local/cuda/version.txt": "CUDA Version 10.2.300\n"}, "10.2.300"),
        ({"usr/local/cuda/version.json": "[1]"}, None),
        ({}, None),
    ],
)
def test_cuda(files: dict[str, str], version: str | None, tmp_path: Path) -> None:
    assert nvidia.cuda(tree(tmp_path, files)) == version


def test_a_jetson(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            jetson.MODEL: "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
            jetson.RELEASE: "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
            "var/lib/nvpmodel/status": "pmode:0002",
            "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
        },
    )
    assert nvidia.present(root) and nvidia.capability(root) == "8.7"
    found = nvidia.facts(root)
    assert (found["board"], found["l4t"], found["power_mode"]) == ("orin-nano", "36.4.3", "MAXN_SUPER")


def test_windows_around_it(tmp_path: Path) -> None:
    assert nvidia.present(tree(tmp_path, {"dev/dxg": ""}))


@pytest.mark.parametrize(("said", "capability"), [("8.9\n8.9\n", "8.9"), ("[N/A]\n", None), ("", None)])
def test_capability_by_nvidia_smi(
    said: str, capability: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{said}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert nvidia.capability(tmp_path) == capability
    tool.unlink()
    assert nvidia.capability(tmp_path) is None
