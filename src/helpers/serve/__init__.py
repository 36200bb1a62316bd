"""A small inference engine: paged cache, continuous batching, sampling, streaming.

From the bottom up, one module to an idea:

    blocks                   who owns which block of the cache: share, copy on write, keep, evict
    kv_format                how a row of keys or values is stored: any float, 8 bits, 4 bits
    cache  attention         keys and values in one piece or in blocks; attention over blocks
    request  events  metrics what is asked for; what was decided; how long it took
    sampling  detokenizer    from scores to a token; from tokens to text
    scheduler                who computes what in the next step
    engine                   requests in, tokens out
    acceptance  speculative  guess several tokens, verify them in one pass
"""
