# Every target installs what it needs first. PYTHON=... names another Python 3.11.
SHELL := bash
export OMP_WAIT_POLICY ?= PASSIVE
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
FURNITURE := $(CURDIR)/.cache/furniture/usr/share/sweethome3d/furniture

.PHONY: demo overfit overfit-furniture test test-fast check format install clean

demo: install
	$(BIN)/datagen run demo --root demo --workers $(WORKERS)
	@echo "Open demo/report.html"

# Sweet Home 3D's furniture for the tests on real objects; without apt they are skipped.
.PHONY: furniture
furniture:
	@test -d $(FURNITURE) || { mkdir -p .cache && cd .cache && \
	  { apt-get download -q sweethome3d-furniture || \
	    { apt-get update -q && apt-get download -q sweethome3d-furniture; } } && \
	  dpkg -x sweethome3d-furniture_*.deb furniture && rm sweethome3d-furniture_*.deb; } || \
	  echo "No Sweet Home 3D furniture (apt-get download failed): tests on it are skipped."

overfit: install
	$(BIN)/datagen run overfit --root overfit
	@echo "Open overfit/report.html"

# Beside the sampled scenes, what the decoder makes of the true latents: the most there is to reach.
overfit-furniture: install furniture
	$(BIN)/datagen run overfit_furniture --root overfit_furniture --workers $(WORKERS) \
	  --source-path $(FURNITURE)
	$(BIN)/python benchmarks/generalisation.py --root overfit_furniture \
	  --models overfit_furniture/model --sets "views trained on=overfit_furniture:all" \
	  --val-fraction 0 --num-views 32 --out overfit_furniture/generalisation
	@echo "Open overfit_furniture/report.html"

test: install furniture
	DATAGEN_SWEETHOME3D=$(FURNITURE) $(BIN)/python -m pytest -m "not gpu"

test-fast: install
	$(BIN)/python -m pytest -m "not gpu and not slow and not blender and not ray and not real_assets"

# The tests of what runs inside Blender, in every supported version: each is a virtual environment
# of its own beside the main one, which drives it. One of them: make test-blender-4.2.23
BLENDERS := 4.2.23 4.5.15 5.0.1

.PHONY: test-blender-matrix
test-blender-matrix: $(BLENDERS:%=test-blender-%)

.PHONY: $(BLENDERS:%=test-blender-%)
$(BLENDERS:%=test-blender-%): test-blender-%: install .cache/blender-%/installed
	@echo "Blender $*:"
	DATAGEN_BLENDER=$(CURDIR)/.cache/blender-$*/bin/python $(BIN)/python -m pytest \
	  -m "blender and not gpu" tests/blender tests/chaos/test_blender.py tests/assets/test_formats.py tests/assets/test_prepare.py

.PRECIOUS: .cache/blender-%/installed
.cache/blender-%/installed: | install
	$(BIN)/python -m venv .cache/blender-$*
	.cache/blender-$*/bin/python -m pip install --quiet bpy==$* numpy==1.26.4
	@touch $@

# Small faults are put into the code one by one, and the tests beside it run: those that no test
# sees are listed. Hours for all rooms; of one room: make mutants ROOM=layouts. See docs/mutants.md.
MUTMUT := mutmut==3.8.1
ROOM ?= *

.PHONY: mutants
mutants: install
	$(BIN)/python -m pip install --quiet -c constraints.txt '$(MUTMUT)'
	OMP_NUM_THREADS=1 nice -n 19 $(BIN)/mutmut run --max-children $(WORKERS) 'datagen.$(ROOM).*'
	$(BIN)/mutmut results

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/installed
	@$(BIN)/python -m datagen.blender.system_libraries

$(VENV)/installed: pyproject.toml constraints.txt
	@python="$(PYTHON)"; \
	for candidate in python3.11 python3; do \
	  if [ -z "$$python" ] && "$$candidate" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' \
	    2>/dev/null; then python="$$candidate"; fi; \
	done; \
	if [ -n "$$python" ]; then "$$python" -m venv $(VENV); \
	elif command -v uv >/dev/null; then uv venv --seed --python 3.11 $(VENV); \
	else echo "Python 3.11 is needed and neither python3.11, python3 nor uv gives it." \
	  "Install it (Debian 12: apt-get install python3.11-venv; anywhere: https://docs.astral.sh/uv)," \
	  "or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; fi
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[evaluate,dinov2,readers,textures,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build mutants *.egg-info .mypy_cache .ruff_cache .pytest_cache
