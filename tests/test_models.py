"""The contract of every network: a file in ``edgeseg/models`` joins by existing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgeseg import models
from edgeseg.errors import InputError
from edgeseg.models import _count, _weights
from tests.networks import Case, cases

EVERY = [Case(s.name, v) for s in map(models.spec, models.names()) for v in s.variants]
SEMANTIC = [case for case in EVERY if models.spec(case.name).task == "semantic"]
SMALL = [case for case in EVERY if case.variant.parameters < 6e6]


@pytest.mark.parametrize("case", SEMANTIC, ids=str)
def test_logits_have_a_channel_for_each_class(case: Case) -> None:
    with torch.inference_mode():
        logits = case.fresh(7).eval()(torch.rand(1, 3, *case.size))
    height, width = case.size
    assert logits.shape[:2] == (1, 7) and logits.isfinite().all()
    assert logits.shape[2] * width == logits.shape[3] * height  # the frame's shape, or a part of its size


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_costs_what_its_file_says(case: Case) -> None:
    stated = case.variant
    with torch.device("meta"):
        network = models.file(case.name).build(stated.classes, stated.name)
    assert _count.parameters(network) == stated.parameters
    assert _count.gmacs(network, stated.size) == pytest.approx(stated.gmacs, abs=0.005)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_trains(case: Case) -> None:
    network = case.fresh(5).train()
    outputs = network(torch.rand(2, 3, *case.size))
    loss = sum(o.square().mean() for o in (outputs if isinstance(outputs, tuple) else (outputs,)))
    loss.backward()
    assert [k for k, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_a_state_dict_finds_its_variant_and_classes(case: Case) -> None:
    module_file = models.file(case.name)
    with torch.device("meta"):
        state = module_file.build(6, case.variant.name).state_dict()
        assert module_file.classes_of(state) == 6
        picked = models.fitting(module_file, state, 6, module_file.SPEC.variants)
        assert _weights.misfit(module_file.build(6, picked.name), state) == 0


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_checkpoint_round_trip(case: Case, tmp_path: Path) -> None:
    state = models.file(case.name).build(6, case.variant.name).state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "weights.pth")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "weights.safetensors")
    for suffix in ("pth", "safetensors"):
        network = models.load(case.name, tmp_path / f"weights.{suffix}", variant=case.variant.name)
        assert network.classes == 6
        assert all(torch.equal(v, network.module.state_dict()[k]) for k, v in state.items())


def test_random_weights_are_the_same_each_time() -> None:
    first, second = (models.load("enet", "random:3", classes=5) for _ in range(2))
    assert first.weights == second.weights and first.weights.source == "random:3"
    for a, b in zip(first.module.state_dict().values(), second.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="random weights want a number, as in random:1"):
        models.load("enet", "random:x")


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
