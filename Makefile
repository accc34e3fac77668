# The two commands: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test lint wheel wheel-test docs notebooks types tests test-slow crash attack test-cluster trial-concurrency experiments experiments-real train-demo peers web screenshots clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sleepfm-index needs Python 3.11 or newer; name one with: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $(STAMP)

demo: install
	$(BIN)/sleepfm-index demo

test: lint types tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	find sleepfm index -name "*.py" | xargs $(BIN)/python -m numpydoc lint

types: install
	$(BIN)/mypy

# Two processes, a file each at a time, in the order of their names: by default xdist leaves the files
# of few tests for last, which are the longest. One file: .venv/bin/python -m pytest tests/test_query.py
tests: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# The wheel in an empty environment, without constraints but torch for CPUs: the demo, two nights.
wheel: install
	$(BIN)/python -m build --wheel --outdir dist .

wheel-test: wheel
	rm -rf .wheel-test
	$(PYTHON) -m venv .wheel-test/venv
	.wheel-test/venv/bin/python -m pip install --quiet "torch==2.13.0"
	.wheel-test/venv/bin/python -m pip install --quiet "$$(ls -t dist/*.whl | head -1)"
	.wheel-test/venv/bin/python -m pip check
	cd .wheel-test && venv/bin/sleepfm-index demo --subjects 2 --hours 0.2
	rm -rf .wheel-test

# The site of docs/ into docs/site; a warning is an error.
docs: install
	$(BIN)/python docs/build.py

# docs/notebooks, run from the first cell to the last on a small simulated store.
notebooks: install
	$(BIN)/python docs/notebooks/run.py

# The longest tests: some of training and search, and benchmarks that take long even at a tiny size.
test-slow: install
	$(BIN)/python -m pytest -m slow --numprocesses 2

# Every point at which a writer can die, and every fault of a disk: some 20 minutes.
crash: install
	$(BIN)/python tests/crash/harness.py

# Random damage to everything that is read, for ten minutes (other times: ATTACK="--seconds 60").
attack: install
	$(BIN)/python tests/attacks/fuzz.py $(ATTACK)

trial-concurrency: install
	$(BIN)/python tests/crash/concurrency.py --seconds 60

# The four open questions on simulated nights (docs/questions.md): many hours, in pieces, at the lowest
# priority; other sizes: QUESTIONS="--people 50 --seeds 1".
experiments: install
	$(BIN)/python experiments/questions.py $(QUESTIONS)

# Real EEG against a band-power baseline: UCDDB is a folder of ucddb*.npz (docs/evaluation.md), SLPDB
# one of slpdb as WFDB records, subjects.csv, channels.yaml.
UCDDB ?= ../shared/ucddb
SLPDB ?= ../shared/slpdb
WEIGHTS ?= untrained demo
experiments-real: install
	$(BIN)/python experiments/real_eeg.py $(UCDDB) --weights $(WEIGHTS)
	$(BIN)/python experiments/real_nights.py $(SLPDB)/records --subjects $(SLPDB)/subjects.csv \
	    --channels $(SLPDB)/channels.yaml --weights $(WEIGHTS)

# A cluster on loopback whose processes are killed, and object storage: moto has an environment of
# its own, because its pins do not go with ours.
MOTO := .venv-moto/bin/python
$(MOTO):
	$(PYTHON) -m venv .venv-moto
	$(MOTO) -m pip install --quiet "moto[server]>=5"

test-cluster: install $(MOTO)
	SLEEPFM_TEST_CLUSTER=1 SLEEPFM_TEST_MOTO=$(MOTO) \
		$(BIN)/python -m pytest tests/test_cluster.py tests/test_staging.py tests/test_sharding.py

# The recipe of the shipped weights, into train-demo/table.md; the same command goes on after a stop.
# Every step in minutes, to see it work: make train-demo TRAIN="--trial --folder small"
train-demo: install
	$(BIN)/python benchmarks/train_demo.py $(TRAIN)

# The page of `explore`, built from its sources: the same bytes on every machine. Needs node 20.
WEB := index/sleepfm_index/explore/web
web:
	npm ci --prefix $(WEB) --no-fund --no-audit
	node $(WEB)/build.js

# The pictures of README and docs/explore.md, from the demo's store; needs chromium.
screenshots: install
	$(BIN)/python benchmarks/screenshots.py

# What search is compared with, in an environment of its own: then benchmarks/search.py.
peers: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv .peers
	.peers/bin/python -m pip install --quiet --requirement benchmarks/peers/requirements.txt

clean:
	rm -rf $(VENV) .peers .wheel-test dist docs/site .venv-moto sleepfm-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
