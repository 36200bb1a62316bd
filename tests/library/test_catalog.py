"""The catalog: every record loads, every figure has a source, every fault is named."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import catalog
from helpers.catalog import facts, loading
from helpers.catalog.records import Chip, Claim, Figure, Link, Model, Source

ROOT = Path(__file__).resolve().parents[2]
CHIPS = catalog.chips()
MODELS = catalog.models()


def ids(record):
    return getattr(record, "id", getattr(record, "key", None))


# --- the data -------------------------------------------------------------------------------


def test_everything_loads():
    catalog.reload()
    catalog.check()


def test_the_book_has_these_chips_and_models():
    assert {
        "a100-sxm-40gb", "a100-sxm-80gb", "h100-sxm", "h100-nvl", "h200-sxm", "b200-sxm",
        "gb200-nvl72", "b300-sxm", "gb300", "rubin", "l40s", "rtx-4090", "t4", "l4", "mi300x",
        "mi325x", "mi355x", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7", "inferentia2",
        "trainium2", "trainium3", "maia-100", "maia-200", "mtia-v2", "groq-lpu-v1", "wse-3",
        "sn40l", "blackhole-p150", "wormhole-n300", "xeon-6980p", "epyc-9965",
    } <= {chip.id for chip in CHIPS}  # fmt: skip
    assert {
        "gpt2", "gpt2-xl", "llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3.1-8b",
        "llama-3.1-70b", "llama-3.1-405b", "mistral-7b-v0.1", "mistral-7b-v0.3", "mixtral-8x7b",
        "deepseek-v3", "qwen2.5-0.5b", "qwen2.5-7b",
    } <= {model.id for model in MODELS}  # fmt: skip


@pytest.mark.parametrize("chip", CHIPS, ids=ids)
def test_every_chip_is_whole(chip):
    assert chip.peaks
    assert chip.bandwidth > 0
    for path, figure in chip.figures():
        assert catalog.source(figure.source), path
        assert figure.value > 0 and figure.certainty and figure.date.year >= 2020, path
        if figure.certainty == "unconfirmed":
            assert figure.source == "unsourced", f"{path}: an unconfirmed figure has no source"
        else:
            assert figure.source != "unsourced", path
        if figure.certainty == "derived":
            assert figure.note or figure.where or figure.source == "moving-bytes", path


@pytest.mark.parametrize("chip", CHIPS, ids=ids)
def test_peaks_order_as_physics_has_it(chip):
    """Fewer bits are not slower, sparse is not slower than dense."""
    order = [d for d in ("fp32", "tf32", "bf16", "fp8", "fp4") if d in chip.dtypes()]
    rates = [float(chip.peak(d)) for d in order]
    assert rates == sorted(rates)
    for dtype in chip.dtypes("sparse"):
        if dtype in chip.dtypes():
            assert chip.peak(dtype, "sparse") > chip.peak(dtype)


@pytest.mark.parametrize("chip", CHIPS, ids=ids)
def test_links_have_directions(chip):
    for link in chip.links:
        if link.one_way_figure or link.both_ways_figure:
            assert link.both_ways == pytest.approx(2 * link.one_way, rel=0.01)
            assert link.one_way.figure.direction == "one-way"


def test_derived_rack_is_72_gpus():
    rack, gpu = catalog.chip("gb200-nvl72"), catalog.chip("gb200")
    assert rack.scope == "rack"
    for dtype in gpu.dtypes():
        assert rack.peak(dtype) == pytest.approx(72 * gpu.peak(dtype))
    assert rack.capacity == pytest.approx(72 * gpu.capacity)
    assert rack.bandwidth == pytest.approx(72 * gpu.bandwidth)
    # worked number: 72 x 1.8 TB/s
    assert rack.link("nvlink-5").both_ways == pytest.approx(129.6e12)


KNOWN = {
    "a100-sxm-80gb.peak.bf16": "312 TFLOP/s",
    "a100-sxm-80gb.bandwidth": "2039 GB/s",
    "a100-sxm-40gb.bandwidth": "1555 GB/s",
    "a100-sxm-80gb.link.nvlink-3.one-way": "300 GB/s",
    "h100-sxm.peak.bf16": "989.4 TFLOP/s",
    "h100-sxm.peak.fp8": "1978.9 TFLOP/s",
    "h100-sxm.bandwidth": "3.35 TB/s",
    "h100-sxm.power": "700 W",
    "h100-nvl.capacity": "94 GB",
    "h200-sxm.capacity": "141 GB",
    "h200-sxm.bandwidth": "4.8 TB/s",
    "b200-sxm.peak.fp8": "4500 TFLOP/s",
    "b200-sxm.peak.fp4.sparse": "18 PFLOP/s",
    "gb200-nvl72.peak.fp4": "720 PFLOP/s",
    "b300-sxm.peak.fp4": "13.5 PFLOP/s",
    "gb300.peak.fp4": "15 PFLOP/s",
    "rubin.bandwidth": "22 TB/s",
    "l40s.bandwidth": "864 GB/s",
    "rtx-4090.peak.fp16": "165.2 TFLOP/s",
    "rtx-4090.bandwidth": "1008 GB/s",
    "t4.peak.fp16": "65.1 TFLOP/s",
    "l4.bandwidth": "300 GB/s",
    "mi300x.peak.bf16": "1307.4 TFLOP/s",
    "mi300x.link.infinity-fabric.one-way": "448 GB/s",
    "mi300x.link.infinity-fabric-pair.one-way": "64 GB/s",
    "mi325x.bandwidth": "6 TB/s",
    "mi355x.peak.fp4": "10.1 PFLOP/s",
    "tpu-v4.capacity": "32 GiB",
    "tpu-v5e.peak.bf16": "197 TFLOP/s",
    "tpu-v5p.peak.bf16": "459 TFLOP/s",
    "tpu-v6e.peak.int8": "1836 TOP/s",
    "tpu-v7.peak.fp8": "4614 TFLOP/s",
    "inferentia2.peak.bf16": "190 TFLOP/s",
    "trainium2.link.neuronlink-3.one-way": "640 GB/s",
    "trainium3.peak.fp8": "2517 TFLOP/s",
    "maia-100.link.ethernet.one-way": "600 GB/s",
    "maia-200.capacity": "216 GB",
    "mtia-v2.peak.int8": "354 TOP/s",
    "mtia-v2.bandwidth": "204.8 GB/s",
    "groq-lpu-v1.bandwidth": "80 TB/s",
    "wse-3.capacity": "44 GB",
    "sn40l.peak.bf16": "638 TFLOP/s",
    "blackhole-p150.peak.fp8": "664 TFLOP/s",
    "wormhole-n300.bandwidth": "576 GB/s",
    "xeon-6980p.bandwidth": "844.8 GB/s",
    "epyc-9965.bandwidth": "576 GB/s",
}


@pytest.mark.parametrize("path", KNOWN)
def test_known_good_figures(path):
    assert float(facts.value(path)) == float(catalog.parse_quantity(KNOWN[path]))


@pytest.mark.parametrize(
    ("chip", "dtype", "ridge"),
    [
        ("a100-sxm-80gb", "bf16", 153.01618440412),
        ("rtx-4090", "fp16", 163.888888889),
        ("h100-sxm", "bf16", 295.343),
    ],
)
def test_ridge_points(chip, dtype, ridge):
    assert catalog.chip(chip).ridge(dtype) == pytest.approx(ridge, rel=1e-5)


@pytest.mark.parametrize("model", MODELS, ids=ids)
def test_published_totals_agree_with_the_count(model):
    for counted, published in (
        (model.parameters, model.expected.published_parameters),
        (model.active_parameters, model.expected.published_active_parameters),
    ):
        if published:
            assert counted == pytest.approx(published.value, rel=0.02)
    assert model.active_parameters <= model.parameters


@pytest.mark.parametrize("model", MODELS, ids=ids)
def test_cache_bytes_follow_from_the_shape(model):
    per_layer = (
        model.mla.kv_lora_rank + model.mla.qk_rope_head_dim
        if model.mla
        else 2 * model.kv_heads * model.head_dim
    )
    assert model.kv_per_token == 2 * model.layers * per_layer


def test_no_two_names_alike():
    for records, names in (loading._chips(), loading._models()):
        assert set(names.values()) == set(records)
    assert len({chip.short for chip in CHIPS}) == len(CHIPS)


def test_sources_are_dated_and_cited():
    used = {f.source for chip in CHIPS for _, f in chip.figures()}
    assert used <= {source.key for source in catalog.sources()}
    urls = [source.url for source in catalog.sources() if source.url]
    assert len(urls) == len(set(urls)), "one document, two keys"
    titles = [source.title.lower() for source in catalog.sources()]
    assert len(titles) == len(set(titles)), "one title, two keys"


def test_references_bib_is_current():
    written = (ROOT / "references.bib").read_text(encoding="utf-8")
    assert written.rstrip() == catalog.bibtex().rstrip(), (
        "references.bib is stale: run "
        "python -c 'from helpers import catalog; print(catalog.bibtex())' > references.bib"
    )


def test_bibtex_is_well_formed():
    text = catalog.bibtex()
    assert text == catalog.bibtex()
    keys = re.findall(r"^@\w+\{([^,]+),$", text, re.MULTILINE)
    assert keys == sorted(set(keys))
    assert "unsourced" not in keys and "moving-bytes" not in keys
    for block in text.split("\n@")[1:]:
        assert block.count("{") == block.count("}")


def test_traps_fill_from_the_catalog():
    for trap in catalog.traps():
        text = catalog.fill(trap.text)
        assert "{{" not in text
        assert any(trap.id in chip.traps for chip in CHIPS)


def test_glossary_is_of_a_size_and_linked():
    terms = catalog.glossary()
    assert len(terms) >= 60
    for term in terms:
        assert term.definition.endswith(".") and len(term.definition) < 320, term.term
        assert term.term not in term.see_also


# --- asking ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["h100-sxm", "H100", "NVIDIA H100 SXM5 80GB", " h100_sxm ", "H100 SXM"]
)
def test_names_and_aliases(name):
    assert catalog.chip(name).id == "h100-sxm"


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda: catalog.chip("h10"), catalog.NotInCatalog, "h100-sxm"),
        (lambda: catalog.chip("zzzzzz"), catalog.NotInCatalog, "it has a100-sxm-40gb"),
        (lambda: catalog.chip(100), catalog.CatalogError, "not a name"),
        (lambda: catalog.model("lama-3.1-8b"), catalog.NotInCatalog, "llama-3.1-8b"),
        (lambda: catalog.source("wiliams-2009"), catalog.NotInCatalog, "williams-2009"),
        (lambda: catalog.claim("no-such-claim-at-all"), catalog.NotInCatalog, "claim"),
        (lambda: catalog.chips(vendor="Nvidea"), catalog.NotInCatalog, "NVIDIA"),
        (
            lambda: catalog.chip("a100").peak("fp8"),
            catalog.NotInCatalog,
            r"no dense fp8 peak. Dense: fp32, tf32, bf16, fp16, int8; sparse: tf32, bf16",
        ),
        (lambda: catalog.chip("wse-3").peak("fp16"), catalog.NotInCatalog, "none published"),
        (lambda: catalog.chip("t4").peak("bf16"), catalog.NotInCatalog, "fp16"),
        (lambda: catalog.chip("h100").peak("bf16", "spars"), catalog.CatalogError, "'dense' and"),
        (lambda: catalog.chip("h100").link("nvlink-5"), catalog.NotInCatalog, "nvlink-4"),
        (lambda: catalog.chip("h100").link("nvlink-4").bandwidth(), ValueError, "one-way"),
        (lambda: catalog.chip("t4").link("pcie-3-x16").one_way, catalog.NotInCatalog, "published"),
        (lambda: catalog.chip("tpu-v7").power, catalog.NotInCatalog, "power"),
        (lambda: catalog.chip("xeon").capacity, catalog.NotInCatalog, "capacity"),
    ],
)
def test_what_cannot_be_had_is_explained(ask, error, message):
    with pytest.raises(error, match=message):
        ask()


def test_not_in_catalog_is_a_lookup_and_a_value_error():
    assert issubclass(catalog.NotInCatalog, LookupError)
    assert issubclass(catalog.NotInCatalog, ValueError)


def test_sparse_only_by_name():
    chip = catalog.chip("h100-sxm")
    assert chip.peak("bf16") == 989.4e12
    assert chip.peak("bf16", sparsity="sparse") == 1979e12
    assert chip.peak("bfloat16").figure.sparsity == "dense"


def test_accumulation_defaults_to_the_wide_one():
    chip = catalog.chip("rtx-4090")
    assert chip.peak("fp16") == 165.2e12
    assert chip.peak("fp16", accumulate="fp16") == 330.3e12
    with pytest.raises(catalog.NotInCatalog, match="fp16 accumulation"):
        chip.peak("bf16", accumulate="fp16")


def test_a_figure_carries_its_record():
    figure = catalog.chip("h100-sxm").bandwidth.figure
    assert (figure.printed, figure.certainty) == ("3.35 TB/s", "read")
    assert catalog.source(figure.source).url.startswith("https://")


def test_records_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        catalog.chip("h100").year = 1999


def test_a_half_published_link_gives_the_other_half():
    link = Link.model_validate(
        {
            "name": "x",
            "label": "X",
            "both_ways": {
                "value": "900 GB/s", "source": "bekman-2026", "date": "2026-08-22",
                "certainty": "read",
            },
        }
    )  # fmt: skip
    assert link.one_way == 450e9
    assert link.one_way.figure.certainty == "derived"


# --- faults in the data files -----------------------------------------------------------------

CHIP_FILE = loading.DATA / "chips" / "h100-sxm.yaml"
MODEL_FILE = loading.DATA / "models" / "llama-3.1-8b.yaml"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("value: 3.35 TB/s", "value: fast", ["bandwidth", "'fast'", "3.35 TB/s"]),
        ("value: 3.35 TB/s", "value: 3.35", ["bandwidth", "3.35", "number with a unit"]),
        ("value: 3.35 TB/s", "value: 3.35 Tb/s", ["bandwidth", "Tbit/s", "TB/s"]),
        ("value: 3.35 TB/s", "value: 3.35 TB", ["bandwidth", "must be in B/s"]),
        ("value: 3.35 TB/s", "value: -3.35 TB/s", ["greater than zero"]),
        ("value: 700 W", "value: 700 W, range: [100 W, 200 W]", ["power", "range"]),
        ("value: 700 W", "value: 700 W, certainty: sure", ["certainty", "'sure'", "'read'"]),
        ("dtype: tf32, value", "dtype: tf23, value", ["peaks[1].dtype", "'tf23'", "'tf32'"]),
        ("kind: gpu", "kind: cpux", ["kind", "'cpux'", "'gpu'"]),
        ("kind: gpu", "colour: green", ["colour", "not a field here"]),
        ("year: 2022", "year: soon", ["year", "'soon'"]),
        ("year: 2022\n", "", ["year", "missing"]),
        ("year: 2022", "year: 2022\nyear: 2023", ["line", "'year' stands twice"]),
        ("vendor: NVIDIA", "vendor: [NVIDIA", ["line"]),
        ("one_way: {value: 450 GB/s}", "one_way: {value: 900 GB/s}", ["not half"]),
        ("id: h100-sxm", "id: h100", ["'h100'", "name the file h100.yaml"]),
        ("source: bekman-2026,", "sauce: bekman-2026,", ["defaults.sauce", "source, where"]),
        ("dtypes: [bf16, fp16], value", "dtypes: bf16, value", ["peaks[2].dtypes", "list"]),
        (
            "  - {dtype: tf32, value",
            "  - {dtype: fp32, value: 1 TFLOP/s}\n  - {dtype: tf32, value",
            ["fp32", "twice"],
        ),
        ("value: 1978.9 TOP/s", "value: 1978.9 TFLOP/s", ["int8", "OP/s"]),
    ],
)
def test_a_planted_fault_is_named(tmp_path, old, new, expected):
    text = CHIP_FILE.read_text(encoding="utf-8")
    assert old in text, "the plant no longer fits the file"
    (tmp_path / CHIP_FILE.name).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(catalog.CatalogError) as caught:
        loading.load_folder(Chip, tmp_path)
    message = str(caught.value)
    assert "h100-sxm.yaml" in message and "\n" not in message
    for part in expected:
        assert part in message, message


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kv_heads: 8", "kv_heads: 7", ["kv_heads", "7", "32"]),
        ("kv_heads: 8", "kv_heads: 0", ["kv_heads", "0"]),
        ("attention: gqa", "attention: mha", ["attention", "'mha'"]),
        ("attention: gqa", "attention: mla", ["mla"]),
        ("layers: 32", "layers: many", ["layers", "'many'"]),
    ],
)
def test_a_planted_fault_in_a_model_is_named(tmp_path, old, new, expected):
    text = MODEL_FILE.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / MODEL_FILE.name).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(catalog.CatalogError) as caught:
        loading.load_folder(Model, tmp_path)
    for part in ("llama-3.1-8b.yaml", *expected):
        assert part in str(caught.value)


@pytest.fixture
def spare_data(tmp_path, monkeypatch):
    """A copy of all data files in place of the real ones."""
    copy = tmp_path / "data"
    shutil.copytree(loading.DATA, copy)
    monkeypatch.setattr(loading, "DATA", copy)
    catalog.reload()
    yield copy
    monkeypatch.undo()
    catalog.reload()


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("chips/h100-sxm.yaml", "source: bekman-2026", "source: bekmann-2026", "bekman-2026"),
        ("chips/h100-sxm.yaml", "traps: [", "traps: [nonsense, ", "nonsense"),
        ("chips/h100-sxm.yaml", "aliases: [h100", "aliases: [a100", "both a100-sxm-80gb and"),
        ("models/gpt2.yaml", "source: nanogpt", "source: nanogtp", "nanogpt"),
        ("sources.yaml", "- key: llm-viewer", "- key: litgpt", "stands twice"),
        ("sources.yaml", "year: 2009", "year: MMIX", "williams-2009"),
        ("glossary.yaml", "see_also: [GPU, TPU", "see_also: [CPU, TPU", "'CPU' is not a term"),
    ],
)
def test_faults_between_files_are_named(spare_data, file, old, new, expected):
    _replace(spare_data / file, old, new)
    with pytest.raises(catalog.CatalogError) as caught:
        catalog.check()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(spare_data):
    (spare_data / "sources.yaml").unlink()
    with pytest.raises(catalog.CatalogError, match=r"sources.yaml: the file is missing"):
        catalog.sources()


def test_nothing_is_read_at_import_time(spare_data):
    """A broken file does not break the import, only the question."""
    (spare_data / "sources.yaml").write_text("{", encoding="utf-8")
    program = (
        "from pathlib import Path\n"
        "from helpers.catalog import loading\n"
        f"loading.DATA = Path({str(spare_data)!r})\n"
        "from helpers import catalog\n"
        "try:\n"
        "    catalog.chip('h100')\n"
        "except catalog.CatalogError as error:\n"
        "    print('asked:', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("asked:"), done.stderr


def test_a_wrong_claim_needs_its_correction():
    good = {
        "id": "x", "statement": "The ridge is 500.", "where_met": "a course module",
        "kind": "wrong", "verdict": "It is 295.", "corrected": "295 FLOP/B",
        "confidence": "high", "chapter": "roofline",
    }  # fmt: skip
    assert Claim.model_validate(good)
    with pytest.raises(ValueError, match="corrected"):
        Claim.model_validate({**good, "corrected": None})


def test_a_source_says_by_whom():
    with pytest.raises(ValueError, match="authors or a publisher"):
        Source.model_validate(
            {"key": "x", "kind": "paper", "title": "Title", "year": 2020,
             "read_on": "2026-01-01", "how_read": "whole"}
        )  # fmt: skip


def test_fields_refuse_the_unknown():
    with pytest.raises(ValueError, match="extra"):
        Figure.model_validate(
            {"value": "1 B", "source": "x", "date": "2026-01-01", "certainty": "read", "hue": 1}
        )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("bandwidth: {value: 3.35 TB/s}", "bandwidth: {value: 3350 TB/s}", "check the prefix"),
        ("value: 989.4 TFLOP/s", "value: 9894 TFLOP/s", "peaks: "),
        ("date: 2026-08-22", "date: 2126-08-22", "still to come"),
    ],
)
def test_a_slip_of_prefix_digit_or_date_is_caught(tmp_path, monkeypatch, old, new, says):
    source = loading.DATA / "chips" / "h100-sxm.yaml"
    text = source.read_text("utf-8")
    assert old in text
    folder = tmp_path / "data"
    shutil.copytree(loading.DATA, folder)
    (folder / "chips" / "h100-sxm.yaml").write_text(text.replace(old, new, 1), "utf-8")
    monkeypatch.setattr(loading, "DATA", folder)
    loading.reload()
    try:
        with pytest.raises(catalog.CatalogError, match=says) as caught:
            catalog.chips()
        assert "h100-sxm.yaml" in str(caught.value)
    finally:
        monkeypatch.undo()
        loading.reload()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("h1000", "h100-sxm"),  # not Rubin, whose alias R100 shares three characters
        ("rtx-5090", "rtx-4090"),
        ("tranium2", "trainium2, trainium3"),
        ("lubin", "rubin"),  # a first letter that no near name has is no hindrance
    ],
)
def test_suggestions_are_near(name, nearest):
    with pytest.raises(catalog.NotInCatalog) as error:
        catalog.chip(name)
    assert str(error.value).endswith(f"; nearest: {nearest}")
