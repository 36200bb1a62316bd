"""A small inference engine: paged cache, continuous batching, sampling, streaming."""
