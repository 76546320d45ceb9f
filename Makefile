# make demo   the main job: bundled ticket, bundled images, simulated board
# make test   style checks and the whole regression
# make formal  proofs of the stream rules, and that each notices a seeded bug
# make bitstreams  every board: reports, manifests, bitstreams or archives (hours on 2 cores)
# make clean  removes the environment and caches of this folder

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= 2
# Add browser to look at the HTML report in chromium, data and sweep for their tests.
EXTRAS ?= build,formal,test

.PHONY: demo test lint mutation formal study bitstreams clean
.DEFAULT_GOAL := demo

demo: $(VENV)/run.ok
	$(BIN)/spiketicket run

test: $(VENV)/test.ok lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests

lint: $(VENV)/test.ok
	$(BIN)/ruff check .

mutation: $(VENV)/test.ok
	$(BIN)/spiketicket check mutations

formal: $(VENV)/test.ok
	$(BIN)/spiketicket check proofs --jobs $(JOBS)
	$(BIN)/spiketicket check proofs --bugs --jobs $(JOBS)

study: $(VENV)/test.ok
	$(BIN)/spiketicket bench study --plot docs/img

BOARDS ?= ulx3s_85f ecpix5_85f versa_ecp5 arty_a7 arty_a7_100

# Exit code 3: no bitstream where neither Vivado nor nextpnr-xilinx is installed; the archive is made.
bitstreams: $(VENV)/test.ok
	@for board in $(BOARDS); do \
		$(BIN)/spiketicket build --board $$board || [ $$? -eq 3 ] || exit 1; \
	done

$(VENV)/run.ok: pyproject.toml constraints.txt | check
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/test.ok: $(VENV)/run.ok
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
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
