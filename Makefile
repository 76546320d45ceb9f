# make demo   the main job: bundled ticket, bundled images, simulated board
# make test   style checks and the whole regression
# make clean  removes the environment and caches of this folder

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= 2

.PHONY: demo test lint mutation study clean
.DEFAULT_GOAL := demo

demo: $(VENV)/run.ok
	$(BIN)/python -m sw.run_inference

test: $(VENV)/test.ok lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests

lint: $(VENV)/test.ok
	$(BIN)/ruff check .

mutation: $(VENV)/test.ok
	$(BIN)/python -m sim.mutate

study: $(VENV)/test.ok
	$(BIN)/python -m sw.study --plot docs/img

$(VENV)/run.ok: pyproject.toml constraints.txt | check
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/test.ok: $(VENV)/run.ok
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

# Names what is missing and the line that installs it.
.PHONY: check
check:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "SpikeTicket needs Python 3.11 or newer, $(PYTHON) is older: sudo apt-get install python3"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "Python's venv module is missing: sudo apt-get install python3-venv"; exit 2; }
	@for tool in g++:g++ perl:perl; do \
		command -v $${tool%%:*} >/dev/null || \
		{ echo "$${tool%%:*} is missing (it builds the simulated board): sudo apt-get install $${tool##*:}"; exit 2; }; \
	done

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build *.egg-info
