"""Byte-level byte-pair encoding: 4,096 tokens, no unknown text.

Training starts from the 256 bytes and merges, again and again, the pair of neighbours that is most
frequent in the training text, never across the borders of words (Sennrich et al. 2016 on
characters, Radford et al. 2019 on bytes). Since every byte is a token, every text has an encoding
and decodes to itself.

The vocabulary is small on purpose: the embedding of a model of ten million parameters should not
eat most of it, and a draft model pays for the vocabulary at each token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

ASSET = Path(__file__).parent / "assets" / "tokenizer.json"
VOCABULARY = 4096
END = "<|end|>"  # end of text: stands between documents, no text ever encodes to it


def byte_symbols() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary.

    The convention of GPT-2's tokenizer: printable Latin-1 characters stand for themselves, the
    other 68 bytes are moved up behind U+0100 in order.

    Examples
    --------
    >>> symbols = byte_symbols()
    >>> symbols[ord("a")], symbols[ord(" ")], symbols[ord("\\n")]
    ('a', 'Ġ', 'Ċ')
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = (byte for byte in range(256) if byte not in printable)
    shift = {byte: 0x100 + position for position, byte in enumerate(moved)}
    return [chr(shift.get(byte, byte)) for byte in range(256)]


class Tokenizer:
    """Text to token ids and back.

    Parameters
    ----------
    definition : str
        The JSON of a byte-level BPE in the format of the ``tokenizers`` library.

    Examples
    --------
    >>> tokenizer = load()
    >>> tokenizer.decode(tokenizer.encode("def f(x):\\n    return x"))
    'def f(x):\\n    return x'
    >>> tokenizer.decode_bytes(tokenizer.encode_bytes(b"\\xff\\x00 any bytes"))
    b'\\xff\\x00 any bytes'
    """

    def __init__(self, definition: str):
        try:
            import tokenizers
        except ImportError as error:
            raise ImportError(
                "the book's tokenizer needs the package tokenizers: pip install tokenizers"
            ) from error
        self._definition = definition
        try:
            self._bpe = tokenizers.Tokenizer.from_str(definition)
        except Exception as error:
            raise ValueError(
                f"definition: no tokenizer in the tokenizers format ({error})"
            ) from None
        vocabulary = self._bpe.get_vocab(with_added_tokens=True)
        symbols = byte_symbols()
        missing = [byte for byte in range(256) if symbols[byte] not in vocabulary]
        if missing or END not in vocabulary:
            what = f"byte {missing[0]}" if missing else END
            raise ValueError(
                f"definition: the vocabulary lacks {what}, so it is not byte-level BPE"
            )
        if sorted(vocabulary.values()) != list(range(len(vocabulary))):
            raise ValueError(
                f"definition: {len(vocabulary)} tokens are not numbered 0 to {len(vocabulary) - 1}"
            )
        self.end: int = vocabulary[END]
        self._byte_ids = [vocabulary[symbol] for symbol in symbols]
        byte_of = {symbol: byte for byte, symbol in enumerate(symbols)}
        self._token_bytes = [b""] * len(vocabulary)
        for token, number in vocabulary.items():
            if number == self.end:
                continue
            if foreign := sorted(set(token) - set(byte_of)):
                raise ValueError(
                    f"definition: token {number} holds {foreign[0]!r}, which stands for no byte, "
                    "so it is not byte-level BPE"
                )
            self._token_bytes[number] = bytes(byte_of[symbol] for symbol in token)

    def __len__(self) -> int:
        """Number of tokens in the vocabulary."""
        return len(self._token_bytes)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; ``<|end|>`` in a text is seven characters like any others."""
        _check_text("text", text)
        return self._bpe.encode(text, add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once, on all cores."""
        if isinstance(texts, str):
            raise TypeError("texts must be several texts, not a str; see encode")
        texts = list(texts)
        for number, text in enumerate(texts):
            _check_text(f"texts[{number}]", text)
        encodings = self._bpe.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Token ids of any bytes: what is UTF-8 as text, every other byte as its own token."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes, not {type(data).__name__}; see encode")
        # each byte that is no UTF-8 becomes a surrogate, which no UTF-8 text holds
        text, tokens = bytes(data).decode("utf-8", errors="surrogateescape"), []
        for part in re.split("([\udc80-\udcff])", text):
            if len(part) == 1 and "\udc80" <= part <= "\udcff":
                tokens.append(self._byte_ids[ord(part) - 0xDC00])
            elif part:
                tokens += self.encode(part)
        return tokens

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """The bytes of tokens; the end-of-text token has none."""
        return b"".join(self.token_bytes(token) for token in tokens)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; bytes that are no UTF-8 (half a character) become U+FFFD."""
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes one token stands for."""
        if not 0 <= token < len(self):
            raise ValueError(f"token {token} is not in the vocabulary 0..{len(self) - 1}")
        return self._token_bytes[token]

    def save(self, path: Path = ASSET) -> None:
        """Write the definition as JSON."""
        Path(path).write_text(self._definition, encoding="utf-8")


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}; see encode_bytes")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"{name} holds a lone surrogate, which no UTF-8 text can; use encode_bytes"
        ) from None


def train(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Learn a byte-level BPE from texts.

    Parameters
    ----------
    texts : iterable of str
        The training split and nothing else: a merge learned from a held-out document would make
        that document shorter than an unseen one.
    vocabulary : int
        Number of tokens, at least 257: the end of text and the 256 bytes.

    Returns
    -------
    Tokenizer
    """
    from tokenizers import Tokenizer as Definition
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if vocabulary < 257:
        raise ValueError(
            f"vocabulary must be 257 (end of text and 256 bytes) or more: {vocabulary}"
        )
    bpe = Definition(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=byte_symbols(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    definition = json.loads(bpe.to_str())
    # as an "added token" the end of text would be recognised inside a text, and whoever writes
    # <|end|> could end it; as a plain entry that no merge makes, only its id can
    definition["added_tokens"] = []
    return Tokenizer(json.dumps(definition, ensure_ascii=False, separators=(",", ":")))


@lru_cache(maxsize=1)
def load() -> Tokenizer:
    """The tokenizer that ships with the book; its end of text is token 0."""
    return Tokenizer(ASSET.read_text(encoding="utf-8"))
