# make demo: sets up and does the main job.  make test: sets up and passes the tests.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/demo
# Python keeps what it compiles, or every process that a test starts would compile torch anew.
unexport PYTHONDONTWRITEBYTECODE

# the device of bench-gpu
DEVICE ?= cuda

.PHONY: setup demo test campaign lint docs tutorials release bench bench-gpu clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	if [ -e $(RUN)/config.json ]; then $(BIN)/worldmodel resume $(RUN); \
	else $(BIN)/worldmodel train toy-game --out $(RUN); fi

test: setup
	$(BIN)/python -m pytest -n 2 -q

campaign: setup
	cd tests && ../$(BIN)/python -m campaigns

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# the site, in site/; what is wrong with a page is an error
docs: setup
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --strict --quiet

# runs the notebooks at their full size, and writes their outputs
tutorials: setup
	cd docs/tutorials && for notebook in *.ipynb; do \
	../../$(BIN)/jupyter execute --inplace $$notebook || exit 1; done

# builds both distributions and checks them; publishes nothing
release: setup
	rm -rf build dist
	$(BIN)/python -m build --quiet --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*

bench: setup
	$(BIN)/worldmodel bench toy-game

# Each core's losses on the GPU beside the processor's; speed of cores, of updates and dreams of two
# presets, and of a run from Atari's pixels.
bench-gpu: setup
	$(BIN)/python -m pytest -q -rs tests/test_devices.py -k cuda
	$(BIN)/worldmodel bench cores --no-growth --device $(DEVICE)
	$(BIN)/worldmodel bench cores --preset dreamerv3-1m --compile --device $(DEVICE)
	$(BIN)/worldmodel bench cores --preset dreamerv3-12m --compile --device $(DEVICE)
	$(BIN)/worldmodel train control --env ALE/Pong-v5 --pixels 64 --steps 2000 --prefill 1000 \
	--first-updates 100 --no-film --curve-episodes 0 --device $(DEVICE) --out $(RUN)-pong

clean:
	rm -rf .venv build dist site *.egg-info
