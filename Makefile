# Each target is a step of tools/run.py, which says what it does and how long it took.
PYTHON ?= python3
RUN = @command -v $(PYTHON) >/dev/null 2>&1 || { echo "make: no $(PYTHON) here; install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=python3.12 $@"; exit 1; }; \
      $(PYTHON) tools/run.py

.PHONY: book site serve test test-all notebooks bench lint clean address help

help:       ## these lines
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/ \t/'
book:       ## build the site strictly and serve it on this machine
	$(RUN) book
site:       ## build the site, do not serve it
	$(RUN) site
serve:      ## serve the site that is built; PORT=8000
	$(RUN) serve $(if $(PORT),--port $(PORT))
test:       ## prove the library, the notebooks and the site
	$(RUN) test
test-all:   ## the same and what takes longer
	$(RUN) test-all
notebooks:  ## run all notebooks and store their outputs
	$(RUN) notebooks
bench:      ## measure anew what the book ships as recorded runs (a quiet machine, please)
	$(RUN) bench
lint:       ## style and spelling
	$(RUN) lint
address:    ## change the book's public address everywhere: make address URL=https://github.com/OWNER/NAME
	$(RUN) address $(URL)
clean:      ## remove what was built; the environment in .venv stays
	$(RUN) clean
