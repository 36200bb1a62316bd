"""The gates of the book: what is proved of text, notebooks and site, listed in registry.py."""
