# The whole workflow. `make figures` on a fresh machine needs Python 3.11 or later, make and a package registry.
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: setup figures test test-engines lab plan notebooks site test-site bench gpu-pack clean help

PYTHON ?= python3
PRESET ?= smoke
TRAIN ?= $(if $(filter smoke,$(PRESET)),1,0)
NOTEBOOKS ?=
CPU ?=
PDF ?=
TORCH_INDEX ?=
RUN := .venv/bin/python

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'
	@echo "PRESET=smoke|lite|paper (now $(PRESET)), TRAIN=0|1 (now $(TRAIN)), NOTEBOOKS=\"01_convergence …\" (all), SAM_DATA=folder, CPU=1 TORCH_INDEX=address (setup: torch without CUDA)"

setup: .venv/ready  ## make .venv from the pinned requirements

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(if $(CPU),$(RUN) -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) \
		`sed -nE 's/^torch(vision)?==.*/&+cpu/p' requirements.txt` || echo "no CPU build of torch there: the default one is taken")
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(RUN) -m ipykernel install --sys-prefix
	touch $@

figures: setup  ## regenerate figures/PRESET; TRAIN=1 trains the runs that have no record
	$(RUN) -m lib.paper.notebooks figures $(NOTEBOOKS) --preset $(PRESET) --train $(TRAIN)

# Two files of tests side by side: torch computes in one thread of each.
SIDE := -n 2 --dist loadfile

# What depends on the processor: networks, engines, the optimizer, Hessians.
ENGINES := tests/test_sam.py tests/test_runs_flatness.py tests/test_sweep_selfcheck.py \
	$(wildcard tests/test_models_*.py tests/test_training_*.py tests/test_hessian_*.py)

test-engines: setup  # whatever depends on the processor; CI calls it for several kinds
	CI=true $(RUN) -m pytest $(SIDE) $(ENGINES)

test: setup  ## lint, unit tests, and the committed notebooks executed by nbval
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	rm -rf build/nbval
	OMP_NUM_THREADS=1 CI=true SAM_FIGURES=build/nbval $(RUN) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=600 $(SIDE) notebooks
	OMP_NUM_THREADS=1 CI=true SMOKE_FIGURES=build/nbval/smoke $(RUN) -m pytest $(SIDE) tests
	case `$(RUN) -c 'import torch; print(torch.backends.cpu.get_cpu_capability())'` in AVX2|DEFAULT) ;; \
		*) ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 make test-engines ;; esac  # elsewhere they just ran so

lab: setup  ## open JupyterLab on the notebooks
	$(RUN) -m jupyter lab notebooks

plan: setup  ## what is cached and missing for each figure, and what that would cost on this machine
	$(RUN) -m lib.sweep --plan --preset $(PRESET)

notebooks: setup  ## execute the committed .ipynb again
	$(RUN) -m lib.paper.notebooks refresh $(NOTEBOOKS)

# Sphinx and what it draws with have a list of pins of their own, so that figures and tests need less to be installed.
.venv/site-ready: requirements-site.txt .venv/ready
	$(RUN) -m pip install --quiet --disable-pip-version-check -c requirements.txt -r requirements-site.txt
	touch $@

site: PRESET = lite
site: .venv/site-ready  ## build/site/html: a static site from the records of PRESET=lite, or smoke; PDF=1: as a PDF as well
	OMP_NUM_THREADS=1 SAM_FIGURES=build/site/figures $(RUN) -m lib.paper.site --preset $(PRESET) --train $(TRAIN) $(if $(PDF),--pdf)

test-site: site  # drives the site in a Chromium, if there is one; JUPYTERLAB=1: JupyterLab as well
	$(RUN) -m pytest tests/test_site_*.py

bench: setup  ## time the engine and the Hessian library against their peers
	$(RUN) -m benchmarks

gpu-pack:  ## pack MNIST and cifar10-jpeg.zip of SAM_DATA for `python -m benchmarks.gpu` on a machine without them
	mkdir -p build
	XZ_OPT=-9e tar -C $(or $(SAM_DATA),data) -cJf build/gpu-pack.tar.xz MNIST/raw cifar10-jpeg.zip

clean:  ## remove build products; never records, datasets or checkpoints
	rm -rf build figures/smoke .pytest_cache .ruff_cache
