"""The contract of every network: a file in ``edgeseg/models`` joins by existing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeseg import models
from edgeseg.errors import InputError
from edgeseg.models import _count, _weights

EVERY = [(name, v.name) for name in models.names() for v in models.spec(name).variants]


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_logits_have_a_channel_for_each_class(name: str, variant: str) -> None:
    spec = models.spec(name)
    size = (spec.stride * 4, spec.stride * 5)
    network = models.file(name).build(7, variant).eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, *size))
    assert logits.shape == (2, 7, *size) and logits.isfinite().all()


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_costs_what_its_file_says(name: str, variant: str) -> None:
    (stated,) = (v for v in models.spec(name).variants if v.name == variant)
    with torch.device("meta"):
        network = models.file(name).build(stated.classes, variant)
    assert _count.parameters(network) == stated.parameters
    assert _count.gmacs(network, stated.size) == pytest.approx(stated.gmacs, abs=0.005)


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_trains(name: str, variant: str) -> None:
    spec = models.spec(name)
    network = models.file(name).build(5, variant).train()
    network(torch.rand(2, 3, spec.stride * 4, spec.stride * 4)).square().mean().backward()
    without = [k for k, p in network.named_parameters() if p.grad is None]
    assert not without


@pytest.mark.parametrize(("name", "variant"), EVERY)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_checkpoint_round_trip_finds_variant_and_classes(name: str, variant: str, suffix: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = models.file(name).build(6, variant).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    else:
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    network = models.load(name, path)
    assert (network.variant.name, network.classes) == (variant, 6)
    assert all(torch.equal(v, network.module.state_dict()[k]) for k, v in state.items())


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.write_text, (tmp_path / "ran", "yes"))

    torch.save({"w": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="no checkpoint that can be read safely"):
        _weights.read(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("enett",), "unknown model 'enett': use one of"),
        (("enet", "nowhere.pth"), "no checkpoint at nowhere.pth"),
        (("enet", None, "tiny"), "no variant 'tiny'"),
        (("enet", None, None, 3), "was trained for 11 classes, not 3"),
    ],
)
def test_wrong_requests_name_the_mend(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        models.load(*arguments)  # type: ignore[arg-type]


def test_damaged_checkpoints_are_one_line(tmp_path: Path) -> None:
    for content in (b"", b"not a checkpoint", b"PK\x03\x04 damaged"):
        for suffix in (".pth", ".safetensors"):
            path = tmp_path / f"w{suffix}"
            path.write_bytes(content)
            with pytest.raises(InputError) as caught:
                models.load("enet", path)
            assert "\n" not in str(caught.value)
