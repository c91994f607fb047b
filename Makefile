# `make demo` and `make test` set up all they need; every target shares one environment.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SHOP := examples/online-retail/shop.toml

.PHONY: demo test test-neo4j-latest check docs bench neo4j clean

demo: $(READY)
	$(BIN)/catalograph rebuild $(SHOP)
	$(BIN)/catalograph evaluate $(SHOP) --baselines
	set -e; for user in 17850 13047 12583; do $(BIN)/catalograph recommend $(SHOP) --user $$user -k 5 --explain; done

# Two processes, a file's tests in one of them: what a file builds is built once.
test: check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# The store's contract and faults on the newest Neo4j line; needs Java 21 or 25.
test-neo4j-latest: check
	NEO4J_VERSION=2025.11.2 $(BIN)/python -m pytest -k neo4j

# A server to try things on: NEO4J_PASSWORD=… make neo4j
neo4j: $(READY)
	$(BIN)/python tests/neo4j/server.py

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	rm -rf build/types && mkdir -p build/types/catalograph
	ln -s $(patsubst %,../../../%,$(wildcard *.py) $(patsubst %/__init__.py,%,$(wildcard */__init__.py))) build/types/catalograph/
	MYPYPATH=build/types $(BIN)/mypy --package catalograph
	MYPYPATH=build/types $(BIN)/mypy tests benchmarks

# The pages that are written by programs; a test compares them.
docs: $(READY)
	$(BIN)/python -m catalograph.kg.query_page > docs/queries.md

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
