"""The explorables of the book, one module per chapter."""
