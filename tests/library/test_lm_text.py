"""The corpus: what is collected, that copies are found, and that nothing leaks over the split."""

from __future__ import annotations

import json
import random
import sys
import sysconfig
import warnings
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numpy")

from helpers.lm import text
from helpers.lm.text import Copies, Document, Shingles, deduplicate

# --- an independent look for leaks ------------------------------------------------------------

LINES = 20  # non-trivial lines in a row
WORDS = 13
WORST_DOCUMENT, WORST_OVERALL = 0.30, 0.03  # share of 13-word runs that stand in training text


def line_runs(document: Document) -> set[int]:
    """Hashes of runs of lines; indentation, blank lines and lines of a word or two do not count."""
    lines = [" ".join(line.split()) for line in document.text.splitlines()]
    lines = [line for line in lines if len(line) > 8]
    return {hash(tuple(lines[i : i + LINES])) for i in range(len(lines) - LINES + 1)}


def word_runs(document: Document) -> list[int]:
    words = document.text.split()
    return [hash(tuple(words[i : i + WORDS])) for i in range(len(words) - WORDS + 1)]


class Known:
    """The runs of the training text, to look others up in."""

    def __init__(self, training):
        self.lines, self.words = set(), set()
        for document in training:
            self.lines |= line_runs(document)
            self.words.update(word_runs(document))

    def leaks(self, documents) -> list[str]:
        """Names of documents that share a long run of lines, or too many runs of words."""
        found, all_runs, all_hits = [], 0, 0
        for document in documents:
            runs = word_runs(document)
            hits = sum(run in self.words for run in runs)
            all_runs, all_hits = all_runs + len(runs), all_hits + hits
            if line_runs(document) & self.lines or hits > WORST_DOCUMENT * max(len(runs), WORDS):
                found.append(document.name)
        if all_hits > WORST_OVERALL * max(all_runs, 1):
            found.append("all documents together")
        return found


# --- the whole corpus, collected once ---------------------------------------------------------


@pytest.fixture(scope="module")
def corpus():
    return text.corpus()


@pytest.fixture(scope="module")
def known(corpus):
    return Known(corpus.train)


def test_the_corpus_has_the_size_and_the_kinds_the_card_says(corpus):
    for part in corpus:
        assert {document.kind for document in part} == set(text.KINDS)
    sizes = [sum(document.bytes for document in part) for part in corpus]
    assert 6e6 < sizes[0] < 12e6
    assert all(0.02 < size / sum(sizes) < 0.12 for size in sizes[1:])
    names = [document.name for part in corpus for document in part]
    assert len(names) == len(set(names))
    assert "source/argparse.py" in names
    assert not [name for name in names if "/test/" in name or "idlelib" in name]
    assert "source/pydoc_data/topics.py" not in names  # its entries are topics


def test_no_held_out_document_leaks(corpus, known):
    assert known.leaks(corpus.held_out) == []
    assert known.leaks(corpus.validation) == []
    assert Known(corpus.validation).leaks(corpus.held_out) == []


def test_no_docstring_stands_in_source(corpus):
    """What a C module says is not what a source file of any split says."""
    documents = [document for part in corpus for document in part]
    sources = Known(d for d in documents if d.kind == "source")
    assert sources.leaks(d for d in documents if d.kind == "docstring") == []


def longest_shared(corpus) -> tuple[Document, Document]:
    held = max(corpus.held_out, key=lambda document: document.bytes)
    return held, max(corpus.train, key=lambda document: document.bytes)


def test_a_planted_passage_is_seen(corpus, known):
    """Twenty lines, deeper indented, as if a function had been copied into a class."""
    held, train = longest_shared(corpus)
    lines = [line for line in train.text.splitlines() if len(line.strip()) > 12][200 : 200 + LINES]
    planted = replace(held, text=held.text + "\n" + "\n\n".join("    " + line for line in lines))
    assert known.leaks([planted]) == [held.name]


def test_a_planted_near_duplicate_is_seen(corpus, known):
    """A document with every tenth line changed shares no long run of lines, but most words."""
    _, train = longest_shared(corpus)
    lines = train.text.splitlines()
    lines[::10] = [f"something else in line {number}" for number in range(len(lines[::10]))]
    planted = Document("source/planted.py", "\n".join(lines), "source")
    assert not line_runs(planted) & known.lines
    assert "source/planted.py" in known.leaks([planted])


# --- collecting -------------------------------------------------------------------------------

CODE = "".join(f"def function_{i}(x):\n    return x + {i}\n\n\n" for i in range(40))


def test_sources_are_found_by_rule(tmp_path):
    for name in (
        "kept.py",
        "package/kept.py",
        "test/no.py",
        "package/tests/no.py",
        "idlelib/no.py",
        "site-packages/no.py",
        "config-3.11-x86_64-linux-gnu/no.py",
        "package/__pycache__/no.py",
        "ensurepip/_bundled/no.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""{name}"""\n{CODE}', encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# coding: latin-1\nword = 'caf\xe9'\r\n")
    (tmp_path / "broken.py").write_bytes(b"word = 'caf\xe9'\n")
    (tmp_path / "table.py").write_text('"""A table."""\nTABLE = {\n' + "    1: 2,\n" * 99 + "}\n")
    found = {document.name: document.text for document in text.sources(tmp_path)}
    assert sorted(found) == ["source/kept.py", "source/latin.py", "source/package/kept.py"]
    assert found["source/latin.py"] == "# coding: latin-1\nword = 'café'\n"


def test_a_folder_without_source_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder: no Python source"):
        text.collect(tmp_path)


def test_an_interpreter_without_source_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    with pytest.warns(UserWarning, match="zipped or compiled.*topics and docstrings only"):
        documents = text.collect()
    assert {document.kind for document in documents} == {"topic", "docstring"}


def test_an_interpreter_without_topics_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.warns(UserWarning, match="no pydoc_data.topics.*source and docstrings only"):
        assert text.topics() == []


def test_an_interpreter_without_any_text_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    monkeypatch.setattr(text, "c_modules", list)
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="neither source"):
        warnings.simplefilter("ignore")
        text.collect()


def test_tables_are_told_from_code():
    assert not text.is_table(CODE)
    assert text.is_table("NAMES = (\n" + "    'a',\n" * 50 + ")\n")
    assert text.is_table("table.update({\n" + "    1: 2,\n" * 50 + "})\n")  # a call is data too
    assert not text.is_table("NAMES = (\n" + "    'a',\n" * 50 + ")\n" + CODE)  # mostly code
    assert not text.is_table('"""' + "Prose.\n" * 80 + '"""\nx = 1\n')  # a docstring is prose
    assert not text.is_table("if x:\n" + "    call(1,\n         2)\n" * 50)
    assert not text.is_table("this is no Python\n" * 50)


def test_module_docstrings_have_signatures_and_no_values():
    import math

    found = list(text.module_docstrings(math))
    assert found[0].startswith("math\n")
    assert any(t.startswith("sqrt(module, x, /)\nReturn the square root of x.") for t in found)
    assert not any(t.startswith("pi\n") for t in found)  # the docstring of float


def test_c_modules_have_no_source():
    names = text.c_modules()
    assert "sys" in names and "_io" in names
    assert "argparse" not in names and not [n for n in names if n.startswith(("_test", "xx"))]


# --- copies -----------------------------------------------------------------------------------


def prose(seed: int, words: int) -> str:
    """Random words, ten in a line."""
    draw = random.Random(seed)
    said = [f"w{draw.randrange(10**6)}" for _ in range(words)]
    return "\n".join(" ".join(said[i : i + 10]) for i in range(0, words, 10)) + "\n"


def document(name: str, *parts: str) -> Document:
    return Document(name, "".join(parts), "source")


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=12), max_size=4),
    st.lists(st.sampled_from("abc"), max_size=15),
    st.integers(1, 4),
)
def test_copied_words_against_the_definition(before, words, length):
    seen = Shingles(length)
    for said in before:
        seen.add(" ".join(said))
    runs = {tuple(s[i : i + length]) for s in before for i in range(len(s) - length + 1)}
    want = [
        any(
            tuple(words[start : start + length]) in runs
            for start in range(max(0, at - length + 1), at + 1)
            if start + length <= len(words)
        )
        for at in range(len(words))
    ]
    assert seen.copied(" ".join(words)).tolist() == want


def test_equal_documents_are_dropped_whatever_their_white_space():
    copies = Copies()
    first = document("a", prose(1, 200))
    second = document("b", first.text.replace("\n", "\n        "))
    kept = deduplicate([first, second, document("c", prose(2, 200))], copies=copies)
    assert sorted(d.name for d in kept) in (["a", "c"], ["b", "c"])
    assert copies.same == 1


def test_near_duplicates_are_dropped():
    copies = Copies()
    lines = prose(1, 1000).splitlines(keepends=True)
    lines[::5] = ["another line\n"] * len(lines[::5])  # every fifth line is different
    kept = deduplicate([document("a", prose(1, 1000)), document("b", *lines)], copies=copies)
    assert [d.name for d in kept] == ["a"]
    assert copies.near == 1 and copies.dropped == ["b"]


def test_a_copied_passage_is_cut_out_and_the_rest_stays():
    copies = Copies()
    shared = prose(9, 100)
    kept = deduplicate(
        [
            document("a", prose(1, 500), shared, prose(2, 500)),
            document("b", prose(3, 200), shared, prose(4, 200)),
        ],
        copies=copies,
    )
    assert [d.name for d in kept] == ["a", "b"]
    assert kept[1].text == prose(3, 200) + prose(4, 200)
    assert copies.passages == 1 and copies.passage_bytes == len(shared)


def test_a_short_quotation_stays():
    shared = prose(9, 50)
    kept = deduplicate([document("a", prose(1, 500), shared), document("b", prose(3, 400), shared)])
    assert all(shared in d.text for d in kept) and len(kept) == 2


def test_the_look_for_copies_has_a_limit_that_the_card_states():
    """Every twelfth word changed leaves no run of 13: such a copy passes, and is known to."""
    from helpers.lm import datacard

    words = prose(1, 1000).split()
    words[::12] = [f"new{number}" for number in range(len(words[::12]))]
    changed = document("b", " ".join(words) + "\n")
    assert len(deduplicate([document("a", prose(1, 1000)), changed])) == 2
    limit = "a text changed at every 12th word would pass"
    assert limit in datacard.load()["rule"]["copies"]
    assert datacard.rule() == datacard.load()["rule"]


def test_short_documents_are_none():
    copies = Copies()
    assert deduplicate([document("a", "x = 1\n" * 33), document("b", "")], copies=copies) == []
    assert copies.short == 2


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), max_size=6), st.randoms())
def test_no_long_passage_stays_in_two_documents(plans, rng):
    """Documents put together from ten passages, in any order of arrival."""
    passages = [prose(seed, 40) for seed in range(10)]
    made = [document(f"d{n}", *(passages[p] for p in plan)) for n, plan in enumerate(plans)]
    kept = deduplicate(made)
    shuffled = made[:]
    rng.shuffle(shuffled)
    assert deduplicate(shuffled) == kept
    seen = set()
    for one in kept:
        words = one.text.split()
        longer = text.LONGEST_COPY_WORDS + 1
        runs = {tuple(words[i : i + longer]) for i in range(len(words) - longer + 1)}
        assert not runs & seen
        seen |= runs


# --- the split --------------------------------------------------------------------------------


def test_the_split_is_the_same_on_every_machine():
    """Were one of these to change sides, the shipped model would have seen its own test."""
    sides = {
        "source/argparse.py": "train",
        "source/typing.py": "held_out",
        "source/dataclasses.py": "held_out",
        "topic/compound": "held_out",
        "docstring/sys": "held_out",
        "source/_pydecimal.py": "validation",
        "source/platform.py": "validation",
    }
    assert {name: text.split_of(Document(name, "", "")) for name in sides} == sides


@pytest.mark.parametrize(
    "names",
    [
        ("source/pathlib.py", "source/pathlib/__init__.py", "source/pathlib/_abc.py"),
        ("source/datetime.py", "source/_pydatetime.py", "docstring/_datetime"),
        ("source/io.py", "source/_pyio.py", "docstring/_io"),
        ("source/abc.py", "source/_py_abc.py", "docstring/_abc"),
        ("source/platform.py", "source/_py_platform.py"),  # as _py_abc, and no train by chance
        ("source/sre_parse.py",),
    ],
)
def test_a_module_that_moves_stays_on_its_side(names):
    assert len({text.split_of(Document(name, "", "")) for name in names}) == 1


def test_the_shares_are_those_that_were_asked_for():
    parts = text.split(Document(f"source/m{number}.py", "", "source") for number in range(5000))
    assert [round(len(part) / 5000, 1) for part in parts] == [0.9, 0.0, 0.1]
    assert abs(len(parts.held_out) / 50 - text.HELD_OUT_PERCENT) < 1.5
    assert abs(len(parts.validation) / 50 - text.VALIDATION_PERCENT) < 1.5


# --- the stranger, and the card ---------------------------------------------------------------


def test_the_stranger_shares_nothing_with_the_corpus(known):
    documents = text.stranger_documents()
    assert sum(d.bytes for d in documents) > 5e5
    assert "LATIN SMALL LETTER A\n" in documents[0].text
    assert not any("CJK UNIFIED IDEOGRAPH-4E00" in d.text for d in documents)
    assert known.leaks(documents) == []
    assert all(text.split(documents))


def test_the_card_describes_this_corpus_or_says_how_it_differs(corpus):
    pytest.importorskip("tokenizers")
    from helpers.lm import datacard, tokenizer

    card = datacard.load()
    for line in datacard.compare(card, corpus):
        split = line.split(":")[0]
        here = sum(d.bytes for d in getattr(corpus, split))
        assert 0.7 < here / card["splits"][split]["bytes"] < 1.3, line
    assert card["tokenizer"]["vocabulary"] == len(tokenizer.load())
    assert json.dumps(card).count("\\n") == 0  # no text, only what is said about it
    changed = replace(corpus.held_out[0], text="changed")
    lines = datacard.compare(card, replace(corpus, held_out=(changed,)))
    assert lines[-1].startswith("held_out: 1 documents of 7 bytes here, 36 of 557,040")
    assert len(datacard.rows(card)) == 5


def test_the_fingerprint_sees_names_texts_and_their_border():
    from helpers.lm.datacard import fingerprint

    made = [[("a", "bc")], [("ab", "c")], [("a", "bd")], [("b", "bc")], [("a", "bc"), ("b", "")]]
    prints = [fingerprint([Document(n, t, "x") for n, t in pairs]) for pairs in made]
    assert len(set(prints)) == len(prints)
