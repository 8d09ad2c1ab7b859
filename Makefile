# Two commands for newcomers: `make demo` runs the main example for real, `make test` runs the tests.
# On Debian as root they install what is missing; elsewhere they say what it is.

EXTRAS = test,browser,dev,s3,sql,sheets
PINS = tests/colab-constraints.txt
IN_NEWEST = .venv/bin/python

help:
	@echo 'make demo       run the main example for real and show the tree it leaves'
	@echo 'make test       run the tests on the newest stack and on that of Google Colab'
	@echo 'make test-long  run the fault and load tests too, with libraries that are tried after a fork'
	@echo 'make lint       ruff and mypy'
	@echo 'make bench      measure what this costs beside its peers, and write docs/benchmarks.md'
	@echo 'make docs       write the reference pages: docs/html/index.html'
	@echo 'make pictures   take the pictures of the README in JupyterLab'
	@echo 'make clean      remove environments, demo and caches'

demo: programs-for-demo .venv
	@$(IN_NEWEST) demo_notebooks/run_demo.py

test: programs-for-test .venv
	@$(IN_NEWEST) tests/setup/run_tests.py -m "not long"

test-long: programs-for-test .venv
	@$(IN_NEWEST) tests/setup/run_tests.py

lint: programs-for-demo .venv
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy

bench: programs-for-bench .venv
	@$(IN_NEWEST) tests/setup/run_bench.py

docs: programs-for-demo
	@sh tests/setup/venv.sh .venv-docs newest docs
	@.venv-docs/bin/python tests/setup/docs/make_docs.py

pictures: programs-for-test .venv
	@PICTURES=demo_notebooks/pictures $(IN_NEWEST) -m pytest -q tests/browser/test_pictures.py

clean:
	rm -rf .venv .venv-colab .venv-docs .demo build dist docs/html docs/source docs/doctrees .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

programs-for-demo programs-for-test programs-for-bench:
	@sh tests/setup/debian.sh $(@:programs-for-%=%)

# The script itself looks whether anything is to be done.
.venv:
	@sh tests/setup/venv.sh .venv newest $(EXTRAS)

# One after the other, also under make -j.
.NOTPARALLEL:

.PHONY: help demo test test-long lint bench docs pictures clean programs-for-demo programs-for-test programs-for-bench .venv
