"""The data card: what the model was trained on, so that anybody can check it or say what differs.

The card is a JSON file beside the checkpoints. It holds the rule, counts, hashes and the figures of
the baselines, and none of the text. Another Python collects another text; `compare` says how far it
is from the card's.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from helpers.lm import baselines, text, tokenizer

ASSET = Path(__file__).parent / "assets" / "data-card.json"


def fingerprint(documents: Iterable[text.Document]) -> str:
    """SHA-256 over names and texts, in the order of names.

    Examples
    --------
    >>> a, b = text.Document("a", "1", "topic"), text.Document("b", "2", "topic")
    >>> fingerprint([a, b]) == fingerprint([b, a]) != fingerprint([a])
    True
    """
    digest = hashlib.sha256()
    for document in sorted(documents, key=lambda d: d.name):
        for part in (document.name, document.text):
            data = part.encode("utf-8")
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def describe_splits(corpus: text.Corpus, tokens: tokenizer.Tokenizer) -> dict:
    """Counts, hash and bytes per token of each split."""
    described = {}
    for name in text.SPLITS:
        documents = getattr(corpus, name)
        length = sum(d.bytes for d in documents)
        count = sum(map(len, tokens.encode_many([d.text for d in documents])))
        described[name] = {
            "documents": len(documents),
            "bytes": length,
            "tokens": count,
            "bytes_per_token": round(length / count, 3) if count else None,
            "kinds": {
                kind: {
                    "documents": sum(d.kind == kind for d in documents),
                    "bytes": sum(d.bytes for d in documents if d.kind == kind),
                }
                for kind in sorted({d.kind for d in documents})
            },
            "sha256": fingerprint(documents),
        }
    return described


def rule() -> dict[str, str]:
    """What counts as text, what as a copy, and which side a document goes to, in words."""
    return {
        "topic": "each entry of pydoc_data.topics",
        "source": "each .py file of the standard library and its packages, without the folders "
        + ", ".join(sorted(text.SKIPPED_FOLDERS))
        + " and those that are no package, and without tables (more than half of the lines in "
        "module-level literals of 40 lines and more)",
        "docstring": "for each module written in C, the docstrings of the module, its "
        "functions, types and methods that stand in no other document; no modules that only "
        "test the interpreter",
        "copies": f"before the split, words in runs of {text.SHINGLE_WORDS} that an earlier "
        "document holds count as copied; a document mostly copied is dropped, a long copied "
        "passage cut out. "
        f"What shares no run of {text.SHINGLE_WORDS} words is not seen: a text changed at every "
        f"{text.SHINGLE_WORDS - 1}th word would pass, and so may code with other names",
        "split": f"SHA-256 of the module's name, of 100: held out {text.HELD_OUT_PERCENT}, "
        f"validation {text.VALIDATION_PERCENT}, train the rest; after copies were taken out",
        "stranger": "names of Unicode characters from unicodedata, 256 code points a document, "
        "without names computed from the code point",
    }


def make() -> dict:
    """The card of the running Python; collects everything and measures the baselines."""
    copies = text.Copies()
    corpus = text.split(text.collect(copies=copies))
    tokens = tokenizer.load()
    removed = {key: value for key, value in asdict(copies).items() if key != "dropped"}
    measured = baselines.measure(corpus, tokens)
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "licence": "Python Software Foundation License Version 2; the text is not redistributed",
        "rule": rule(),
        "copies": {
            "shingle_words": text.SHINGLE_WORDS,
            "duplicate_share": text.DUPLICATE_SHARE,
            "longest_copy_words": text.LONGEST_COPY_WORDS,
            "removed": removed,
        },
        "splits": describe_splits(corpus, tokens),
        "stranger": describe_splits(text.split(text.stranger_documents()), tokens),
        "tokenizer": {
            "kind": "byte-level BPE",
            "vocabulary": len(tokens),
            "end": tokens.end,
            "trained_on": "train",
            "sha256": hashlib.sha256(tokenizer.ASSET.read_bytes()).hexdigest(),
        },
        "baselines_bits_per_byte": {key: round(value, 4) for key, value in measured.items()},
    }


def load() -> dict:
    """The card that ships with the checkpoints."""
    return json.loads(ASSET.read_text(encoding="utf-8"))


def compare(card: dict, corpus: text.Corpus) -> list[str]:
    """Say, split by split, how a corpus differs from the card's.

    Parameters
    ----------
    card : dict
        As from `load`.
    corpus : Corpus
        As collected here.

    Returns
    -------
    list of str
        One line for each split that differs; empty where the text is the same to the byte.

    Notes
    -----
    Besides the Python version, the modules it was built with make a difference, and a notebook's
    kernel, which puts its own ``input`` in place of the built-in one, some hundred bytes.
    """
    lines = []
    for name in text.SPLITS:
        then, documents = card["splits"][name], getattr(corpus, name)
        if fingerprint(documents) != then["sha256"]:
            lines.append(
                f"{name}: {len(documents)} documents of {sum(d.bytes for d in documents):,} bytes "
                f"here, {then['documents']} of {then['bytes']:,} on the card ({card['python']})"
            )
    return lines


def rows(card: dict) -> list[tuple[str, ...]]:
    """The card's splits as a table: a heading row, then a row for each split and the stranger's."""
    table = [("split", "documents", "bytes", "tokens", "bytes per token")]
    splits = {**card["splits"], "stranger's train": card["stranger"]["train"]}
    for name, part in splits.items():
        table.append(
            (
                name.replace("_", " "),
                f"{part['documents']:,}",
                f"{part['bytes']:,}",
                f"{part['tokens']:,}",
                f"{part['bytes_per_token']:.2f}",
            )
        )
    return table


def main() -> None:
    """Write the card of the running Python: ``python -m helpers.lm.datacard``."""
    card = make()
    ASSET.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for row in rows(card):
        print("  ".join(cell.rjust(16) for cell in row))


if __name__ == "__main__":
    main()
