"""A small inference engine in the manner of vLLM and SGLang, to be read as much as to be used.

Read it in this order; what is marked (no torch) is plain Python:

    request      what is asked for, where it stands, what comes back (no torch)
    checks       what may come in (no torch)
    blocks       who owns which block of the cache (no torch); waste: what that saves
    scheduler    who computes what in the next step (no torch)
    cache        keys and values, in one piece or in blocks; kv_format: how a row is stored;
                 rounded: what rounding does to a whole text
    attention    prefill, decoding and both in one pass, over the blocks
    sampling     from scores to a token
    detokenizer  from tokens to text as they come (no torch)
    engine       the loop that joins them; stream: one prompt's pieces as they come
    events       every decision as a line of JSON, and how to replay them (no torch)
    metrics      what is measured of each request (no torch)
    speculative  a small model guesses, the large one checks; acceptance: the rule

What is called otherwise elsewhere:

    here                         in vLLM
    ---------------------------  ---------------------------------------------------------
    Request.computed             num_computed_tokens
    Engine(chunk=...)            max_num_batched_tokens
    Engine(max_batch=...)        max_num_seqs
    reserve, when admitting      watermark
    kept blocks                  free queue of cached blocks
    table of a sequence          block table
    slots that new tokens go to  slot mapping
    preemption                   preemption by recomputation

>>> from helpers.serve.engine import Engine
>>> from helpers.serve.request import SamplingParams
"""
