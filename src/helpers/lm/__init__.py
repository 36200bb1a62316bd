"""The book's own language model: its text, tokenizer, network, training and measured quality."""
