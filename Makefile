# make help    what there is
VENV ?= .venv
DATA ?= ../shared/data
PAPER ?= langevinflow
LOCK := envs/requirements.lock.txt
READY := $(VENV)/.driftwave
export PATH := $(abspath $(VENV))/bin:$(PATH)
# make demo SLURM=1 submits the jobs to a SLURM cluster; summary and report are made here.
ifdef SLURM
ON_CLUSTER := --profile profiles/slurm $(shell profiles/slurm/accounting.sh)
endif

# run_workflow: options of snakemake, folder of the results (as the configuration says).
# Snakemake ends in an error if any job failed; the summary and the report are made all the same,
# and the error is passed on at the end.
# Targets stand before the options in $(1): --config would take them for values.
define run_workflow
status=0; snakemake $(1) $(ON_CLUSTER) || status=$$?; \
snakemake summary --forcerun summary --quiet host progress rules reason $(1) || exit 1; \
snakemake made --report $(2)/report.html $(1) > $(2)/logs/report.txt 2>&1 \
  || { cat $(2)/logs/report.txt; exit 1; }; \
echo; echo "Look at  $(2)/report.html   every figure and table, in a browser"; \
echo "         $(2)/summary.tsv   what became of each job"; \
echo "         $(2)/<session>/    recording, models, scores, decoding, manifold, waves, figures"; \
exit $$status
endef

.PHONY: help demo recordings paper test test-dandi check schemas image clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## */\t/' | expand -t 14

demo: $(READY)  ## Simulate, ingest, fit, analyse, draw and report (a few minutes; SLURM=1 on a cluster)
	@$(call run_workflow,,results)

recordings: $(READY)  ## The same for the real recordings in DATA (default ../shared/data)
	@$(call run_workflow,--configfile config/recordings.yaml --config data_root=$(DATA),results)

paper: $(READY)  ## Tables and figures of PAPER, langevinflow (default, two hours), oscillators, waves, manifolds
	@$(call run_workflow,--configfile config/paper/$(PAPER).yaml,results/paper/$(PAPER))

test: $(READY)  ## All tests
	@$(VENV)/bin/python -c "import nlb_tools" 2> /dev/null \
	  || $(VENV)/bin/python -m pip install --quiet --no-deps nlb-tools==0.0.4 \
	  || echo "nlb-tools could not be installed; tests that compare with it are skipped"
	$(VENV)/bin/python -m pytest

# dandi wants another zarr than the lock: an environment beside, which sees the first one's packages.
test-dandi: $(READY)  ## The tests with the DANDI archive's own client
	$(VENV)/bin/python -m venv --without-pip $(VENV)-dandi
	echo "import site; site.addsitedir('$$($(VENV)/bin/python -c \
	  'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  > $$($(VENV)-dandi/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/first.pth
	$(VENV)/bin/python -m pip --python $(VENV)-dandi/bin/python install --quiet "dandi>=0.74"
	$(VENV)-dandi/bin/python -m pytest -n0 tests/test_remote_dandi.py

check: $(READY)  ## Linters, formatters and types
	ruff check . && ruff format --check . && mypy && snakemake --lint
	snakefmt --check Snakefile workflow

schemas: $(READY)  ## Write workflow/schemas from the configuration's classes
	$(VENV)/bin/python -m driftwave.schemas workflow/schemas

image:  ## Build the container that snakemake --sdm apptainer runs the jobs in
	docker build -t driftwave:0.1.0 -f envs/Dockerfile .

clean:  ## Remove results
	rm -rf results .snakemake

# Debian keeps ensurepip in a package of its own (python3-venv); without it pip installs pip.
$(READY): $(LOCK) pyproject.toml
	test -x $(VENV)/bin/python || python3 -m venv $(VENV) \
	  || { python3 -m venv --clear --without-pip $(VENV) \
	       && python3 -m pip --python $(VENV)/bin/python install --quiet pip; }
	@echo "Installing into $(VENV) (once; about 2 GB)"
	$(VENV)/bin/python -m pip install --quiet -r $(LOCK)
	$(VENV)/bin/python -m pip install --quiet --no-deps -e .
	@touch $@
