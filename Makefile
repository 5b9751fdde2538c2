# `make` runs the whole study; `make test` checks the code. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
# processes that share the tests
TESTS := pytest --numprocesses logical --maxprocesses 8
REPORT := results/report/index.html

.DEFAULT_GOAL := study
.PHONY: study partial-report demo objectives shapes seeds test test-engines test-cluster test-cluster-faults test-faults test-page fuzz check types web docs supply bench install clean distclean help

## study: install, then run the pipeline to the finished report (the default)
study: $(VENV)/installed
	@LATENT_ATLAS_RUN='make $@' $(BIN)/latent-atlas run --cores $(CORES)
	@echo "The report: $(CURDIR)/$(REPORT)"

## demo: a study of about a minute on the 8x8 digits of scikit-learn, in the folder demo, to the same report
## objectives: a study of about ten minutes that compares six objectives of training, in the folder objectives
## shapes: a study of about four minutes of figures whose tangent spaces are known, in the folder shapes
## seeds: a study of about ten minutes of three models with five trainings each, in the folder seeds
demo objectives shapes seeds: $(VENV)/installed
	@mkdir -p $@
	@cp studies/$@.yaml $@/params.yaml
	@cd $@ && LATENT_ATLAS_RUN='make $@' $(CURDIR)/$(BIN)/latent-atlas run --cores $(CORES)
	@echo "The report: $(CURDIR)/$@/$(REPORT)"

## partial-report: run the pipeline past failed jobs, then write a page of what is there, in results/partial
partial-report: $(VENV)/installed
	-@LATENT_ATLAS_RUN='make $@' $(BIN)/latent-atlas run --cores $(CORES) --keep-going
	@$(BIN)/latent-atlas report --partial --results results --images data/images.safetensors \
		--origins .latent-atlas/origins.json --folder results/partial
	@echo "The page: $(CURDIR)/results/partial/index.html"

## test: install what the tests need and run them; with ALL=1 also those of test-engines and test-page, in less time than three runs
test: $(VENV)/installed-dev
	@$(BIN)/$(TESTS) $(if $(ALL),--dist worksteal -m "not slurm and not slow and not faults",--dist loadfile --no-loadscope-reorder)

## test-engines: check that Snakemake and DVC agree in all tested cases (several minutes)
test-engines: $(VENV)/installed-dev
	@$(BIN)/$(TESTS) --dist worksteal -m "engines and not slow"

## test-cluster: check that the pipeline runs on a real SLURM, which the tests start (needs root and the SLURM packages)
test-cluster: $(VENV)/installed-dev
	@$(BIN)/pytest -m "slurm and not slow" -rs

## test-faults: more than a hundred kills, every write of every stage failing, thousands of flipped bits (hours; docs/promises.md)
test-faults: $(VENV)/installed-dev
	@$(BIN)/$(TESTS) --dist worksteal -m faults tests/faults

## test-cluster-faults: check failures of nodes and jobs on the same SLURM (15 minutes)
test-cluster-faults: $(VENV)/installed-dev
	@$(BIN)/pytest -m "slurm and slow" -rs

## test-page: open the report in Chromium, which must be installed
test-page: $(VENV)/installed-dev
	@$(BIN)/pytest -m browser

## fuzz: search for bad input that is not refused well, for an hour (FUZZ_SECONDS), each round with other examples
fuzz: $(VENV)/installed-dev
	@end=$$(( $$(date +%s) + $${FUZZ_SECONDS:-3600} )); while [ $$(date +%s) -lt $$end ]; do \
		FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-400} $(BIN)/pytest -m "not slow" tests/fuzz || exit 1; done

## web: build the scripts and styles of the page from web/ into the package
web: $(VENV)/installed-dev
	cd web && PATH="$(CURDIR)/$(BIN):$$PATH" sh -c 'npm ci --ignore-scripts --no-audit --no-fund --silent && npm run --silent check && npm run --silent build'

## docs: build the documentation into build/docs, with warnings as errors
docs: $(VENV)/installed-dev
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(BIN)/mkdocs build --strict --quiet
	@echo "The documentation: $(CURDIR)/build/docs/index.html"

## types: check the types
types: $(VENV)/installed-dev
	$(BIN)/mypy

## check: formatting, lints, types, dvc.yaml against the Snakefile, the scripts of the page against their sources, the documentation
check: $(VENV)/installed-dev types web docs
	$(BIN)/ruff format --check src tests benchmarks examples docs notebooks setup.py
	$(BIN)/ruff check src tests benchmarks examples docs notebooks setup.py
	$(BIN)/snakefmt --check Snakefile workflow src/latent_atlas/study/templates/Snakefile
	$(BIN)/snakemake --lint
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/latent-atlas pipeline --check
	git diff --exit-code --stat -- src/latent_atlas/report/static

## bench: measure the cost, compared with a baseline and the hardware limit; needs a finished run (half an hour)
bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/speed.py

## supply: what ships and under which licences (build/sbom.json, build/licences.csv), and its known vulnerabilities
supply: $(VENV)/installed web
	$(PYTHON) -m venv build/supply
	build/supply/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom pip-audit pip-licenses
	build/supply/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o build/sbom.json requirements.lock
	build/supply/bin/pip-licenses --python $(BIN)/python --with-urls --format=csv --output-file=build/licences.csv
	cd web && PATH="$(CURDIR)/$(BIN):$$PATH" npm sbom --omit dev --sbom-format cyclonedx > $(CURDIR)/build/sbom-web.json
	build/supply/bin/pip-audit --disable-pip --no-deps --requirement requirements.lock

## install: set up .venv without running anything
install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the packages of requirements.lock into $(VENV): several minutes, the first time"
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	@touch $@

$(VENV)/installed-bench: $(VENV)/installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock \
		--constraint requirements-dev.lock --editable .[bench]
	@touch $@

## clean: remove results and logs (`dvc checkout` brings results back from DVC's cache); keep the dataset and .venv
clean:
	rm -rf logs .snakemake
	git clean -qfdX results 2>/dev/null || rm -rf results

## distclean: also remove the dataset, DVC's cache and .venv
distclean: clean
	rm -rf data .dvc/cache .dvc/tmp $(VENV) src/*.egg-info .mypy_cache .ruff_cache .pytest_cache

## help: show this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST) | awk -F': ' '{ printf "  make %-20s %s\n", $$1, $$2 }'
