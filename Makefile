# `make demo` and `make test` set up all they need; every target shares one environment.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SHOP := examples/online-retail/shop.toml

.PHONY: demo test check bench clean

demo: $(READY)
	$(BIN)/catalograph rebuild $(SHOP)
	$(BIN)/catalograph evaluate $(SHOP) --baselines
	set -e; for user in 17850 13047 12583; do $(BIN)/catalograph recommend $(SHOP) --user $$user -k 5 --explain; done

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .

bench: $(READY)
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/export.py

# Debian: apt install python3-venv
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
