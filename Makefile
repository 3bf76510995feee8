# Two commands from a bare machine (python3 >= 3.11 with venv, and make):
#
#   make lab     make the environment and open JupyterLab on the first lecture
#   make test    make the environment and run every check: lint, types, unit tests, notebooks
#
# The environment is the folder .venv; it is made again only when pyproject.toml changes. No step needs root.

# On Windows make needs the shell of Git (Git Bash), and Python's environments have another layout.
WINDOWS := $(filter Windows_NT,$(OS))
PYTHON ?= $(if $(WINDOWS),python,python3)
VENV   ?= .venv
BIN    := $(VENV)/$(if $(WINDOWS),Scripts,bin)
# Test workers: one per core, at most 8. Each computes with one thread, so that workers do not fight for cores.
JOBS   ?= logical
# Options for JupyterLab, the benchmarks or the unit tests, e.g. make lab ARGS="--no-browser --port 8890"
ARGS   ?=
# Files of unit tests, e.g. make unit TESTS="tests/test_ops.py tests/test_optim.py"
TESTS  ?= tests
# Those whose outcome may hang on the processor: what is computed, by which kernel, in which order.
NUMERIC := autograd checkpoint conv_strategies definitions fast functional kernels layers needle_defects \
           onnx_export onnx_exports onnx_from_pytorch onnx_gradients onnx_training onnx_values onnx \
           ops optim plan pretrained program testing threads training

# uv installs faster where it is present. It never installs torch: no extra of this project names torch.
UV      := $(shell command -v uv 2>/dev/null)
INSTALL  = $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check)

# The Triton GPU backend is installed where an NVIDIA driver answers.
NVIDIA  := $(shell { [ -d /proc/driver/nvidia ] || nvidia-smi -L; } >/dev/null 2>&1 && echo yes)
EXTRAS  := lab$(if $(NVIDIA),$(strip ,gpu))

ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST     := $(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --maxprocesses=8
NOTEBOOKS  := $(sort $(wildcard notebooks/*.ipynb assignments/*/*.ipynb))

.DEFAULT_GOAL := help
.PHONY: help lab test env lint unit haswell notebooks docs test-onnx mutants bench clean
.DELETE_ON_ERROR:

help:
	@echo "make lab        open JupyterLab on the first lecture"
	@echo "make test       run every check: lint, types, unit tests, notebooks"
	@echo "make env        only make the environment for both"
	@echo "make lint       ruff, mypy, and the order of the rooms"
	@echo "make unit       unit tests; some files: make unit TESTS=tests/test_cli.py"
	@echo "make haswell    the numeric unit tests as a processor without AVX-512 computes them"
	@echo "make notebooks  run every lecture and assignment from top to bottom"
	@echo "make docs       the documentation as a site, in docs/_build/html"
	@echo "make test-onnx  ONNX's own backend suite, with its table"
	@echo "make mutants    plant small faults, one at a time: the tests must find them"
	@echo "make bench      time needle_lab beside PyTorch and others; one workload: make bench ARGS=gpt_step"
	@echo "make clean      remove the environment and everything generated"

lab: $(VENV)/.lab
	$(BIN)/needle-lab lab $(ARGS)

test: lint unit notebooks

env: $(VENV)/.lab $(VENV)/.test

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.test
	$(PYTEST) --dist loadscope $(if $(NVIDIA),,-m "not gpu") $(ARGS) $(TESTS)

# NumPy refuses names of features that this machine or its own build does not have, so NumPy says which are left out.
# Numba keeps what it compiled, for one processor: what it compiles for this one goes afterwards.
haswell: $(VENV)/.test
	@left_out="$$($(BIN)/python -c 'import numpy; print(*(f for f in \
	    numpy.show_config("dicts")["SIMD Extensions"]["found"] if f.startswith("AVX512") or f == "X86_V4"))')" || exit 1; \
	if [ -z "$$left_out" ]; then echo "skipped: this machine has no AVX-512, so 'make unit' computes without it"; exit; fi; \
	compiled="$$(mktemp -d)" && trap 'rm -rf "$$compiled"' EXIT; \
	NPY_DISABLE_CPU_FEATURES="$$left_out" OPENBLAS_CORETYPE=Haswell NUMBA_CPU_NAME=haswell NUMBA_CACHE_DIR="$$compiled" \
	    $(MAKE) unit TESTS="$(NUMERIC:%=tests/test_%.py)"

# Lax: a cell must run; its output is compared only where it carries the tag nbval-check-output.
# loadscope keeps the cells of one notebook in one worker, in order.
notebooks: $(VENV)/.test
	$(PYTEST) --dist loadscope -p no:cacheprovider --nbval-lax --nbval-current-env \
	    --nbval-sanitize-with notebooks/nbval_sanitize.cfg $(NOTEBOOKS)

# Warnings are errors; then every local link is followed, and nothing may be loaded from the network.
docs: $(VENV)/.docs
	$(ONE_THREAD) $(BIN)/python docs/build.py

# One recipe for all: .lab has what a learner needs, .test adds the checkers and the test libraries, .docs what makes the site.
$(VENV)/.lab:  WANTED = $(EXTRAS)
$(VENV)/.test: WANTED = test
$(VENV)/.docs: WANTED = docs
$(VENV)/.lab $(VENV)/.test $(VENV)/.docs: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needle_lab needs Python 3.11 or newer; " \
	    "%s is %d.%d. Try: make PYTHON=python3.12 ..." % ((sys.executable,) + sys.version_info[:2]))'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[$(WANTED)]"
	@touch $@

test-onnx: $(VENV)/.test
	$(ONE_THREAD) $(BIN)/python -m pytest -s tests/test_onnx_conformance.py

mutants: $(VENV)/.test
	$(ONE_THREAD) $(BIN)/python tools/mutants.py $(ARGS)

# PyTorch is the peer: pip install torch==2.13.0 into $(VENV) first, as .ci/run does.
bench: $(VENV)/.test
	$(BIN)/needle-lab bench $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist docs/_build
	find needle_lab tests notebooks assignments -name __pycache__ -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -prune -exec rm -rf {} +
