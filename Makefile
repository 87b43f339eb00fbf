# `make demo` and `make test` need nothing but make and a Python from 3.10 to 3.12.
VENV := .venv
READY := $(VENV)/.ready
SUITABLE := import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.10 python3; do \
	$$python -c '$(SUITABLE)' 2>/dev/null && echo $$python && break; done)

.PHONY: demo matrix quantizers test check clean

demo: $(READY)
	$(VENV)/bin/edgeseg demo --out demo

# Every network on every target in every precision, on the same frames, so that their times compare. An hour on two
# cores; goes on where it was.
TRAINED := enet espnet liteseg efficientdet
RANDOM := unet fcn segnet deeplab deeplabv2 deeplabv3 pspnet psanet
matrix: $(READY)
	-$(VENV)/bin/edgeseg matrix $(TRAINED) --data streets:64@240x320:val --calibration streets:64@240x320:train \
		--out matrix/trained
	-$(VENV)/bin/edgeseg matrix $(RANDOM) --data streets:2@240x320:val --calibration streets:8@240x320:train --size 240x320 \
		--seconds 2 --out matrix/random
	$(VENV)/bin/python -m edgeseg.benchmarks.matrix_table README.md docs/matrix.md matrix/trained/results.json \
		matrix/random/results.json

# Two workers on two cores: threads of PyTorch that spin while they wait would take the time of those that work.
test: $(READY) $(VENV)/.tensorrt $(VENV)/.quantizers
	OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

# TensorRT for RTX, which builds real engines on a CPU, and the bindings of two other versions, which only show what
# they have. They are under NVIDIA's licence and for x86-64: where they cannot be had, their tests skip and say so.
BINDINGS := tensorrt-cu12-bindings==10.3.0 tensorrt-cu13-bindings==11.4.0.106
$(VENV)/.tensorrt: $(READY)
	-$(VENV)/bin/pip install --disable-pip-version-check -c constraints.txt -e '.[tensorrt-rtx]' && \
	$(VENV)/bin/pip download --disable-pip-version-check --no-deps -d $(VENV)/tensorrt-bindings $(BINDINGS) && touch $@

# The vendors' own quantizers, which ours is compared with; without them their tests skip.
$(VENV)/.quantizers: $(READY)
	-$(VENV)/bin/pip install --disable-pip-version-check -c constraints.txt -e '.[quantizers]' && touch $@

# Ours beside theirs; goes on where it was. With EDGESEG_DATA set, on the published checkpoints too.
quantizers: $(READY) $(VENV)/.quantizers
	$(VENV)/bin/python -m edgeseg.benchmarks.against_quantizers --write docs/int8-comparison.md

check: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy examples/ros2/edgeseg_ros/edgeseg_ros examples/ros2/try_node.py
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) build dist demo matrix quantizers *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "edgeseg needs Python 3.10, 3.11 or 3.12 with venv; or say make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $(READY)
