"""The library behind *Moving Bytes*.

The packages are layered; an import only ever points down::

    book                     what a page shows: explorables, questions, plots, set-up
    claims  bench            claim checks; probes, timing, recorded runs
    serve                    the inference engine: cache, scheduler, sampling, speculation
    lm                       the book's language model: text, tokenizer, training, checkpoints
    kernels                  GPU kernels with a CPU path
    formulas                 closed forms: numbers, arrays, JavaScript and LaTeX from one function
    catalog                  facts with their sources
"""

__version__ = "0.1.0"
