"""The catalog's records: what a chip, a model, a source, a claim and a term consist of.

A record is frozen and accepts no field that is not listed here. Every published number is a
``Figure``: a value with its unit, its kind (dense or sparse, one direction or both, what it
accumulates in, per chip or per rack), its source, its date and how sure we are of it.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from helpers.catalog.quantities import Quantity, convert, parse_quantity


class CatalogError(ValueError):
    """A fault in the catalog's data or a request that it cannot meet."""


class NotInCatalog(CatalogError, LookupError):
    """A name, a dtype or a link that does not exist; the message says what does."""


Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.\-]*$")]

Certainty = Literal["read", "quoted", "vendor", "derived", "unconfirmed"]

#: what each certainty means, in the words the pages print
CERTAINTIES: dict[str, str] = {
    "read": "read in the source named",
    "quoted": "read where the source named quotes the maker",
    "vendor": "the maker's own claim, not seen in a document we can cite",
    "derived": "computed from other figures in this catalog",
    "unconfirmed": "general knowledge; no source read",
}

Dtype = Literal[
    "fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "fp6", "fp4", "int8", "int4", "mx9", "mx6",
]  # fmt: skip

_DTYPE_NAMES = {
    "float64": "fp64", "double": "fp64", "float32": "fp32", "float": "fp32", "single": "fp32",
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float8": "fp8", "e4m3": "fp8",
    "e5m2": "fp8", "mxfp8": "fp8", "cfp8": "fp8", "blockfp8": "fp8", "mxfp6": "fp6",
    "mxfp4": "fp4", "nvfp4": "fp4",
}  # fmt: skip


class Record(BaseModel):
    """Base of all records: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Source(Record):
    """A public document that a figure or a statement rests on."""

    key: Key
    kind: Literal["paper", "datasheet", "whitepaper", "docs", "repository", "article", "book",
                  "slides", "calculation", "none"]  # fmt: skip
    title: str = Field(min_length=3)
    authors: tuple[str, ...] = ()
    publisher: str | None = None
    year: int = Field(ge=1945, le=2100)
    url: str | None = Field(default=None, pattern=r"^https://")
    doi: str | None = Field(default=None, pattern=r"^10\.")
    arxiv: str | None = Field(default=None, pattern=r"^\d{4}\.\d{4,5}$")
    volume: str | None = None
    number: str | None = None
    pages: str | None = None
    version: str | None = Field(default=None, description="commit or revision that was read")
    read_on: datetime.date = Field(description="when it was last looked at")
    how_read: Literal["whole", "parts", "bibliography", "secondary", "not read"]
    note: str | None = None

    @model_validator(mode="after")
    def _says_by_whom(self) -> Source:
        if not self.authors and not self.publisher:
            raise ValueError("needs authors or a publisher")
        return self


class Figure(Record):
    """A cited number.

    In a data file it is written with its unit, ``value: 3.35 TB/s``; the record keeps the
    value in base units and the text as printed.
    """

    value: float = Field(description="in base units")
    unit: str = Field(description="base unit")
    printed: str = Field(description="as the data file writes it")
    range: tuple[float, float] | None = Field(
        default=None, description="lowest and highest published value, in base units"
    )
    sparsity: Literal["dense", "sparse"] = "dense"
    direction: Literal["one-way", "both-ways"] | None = None
    accumulate: Literal["fp32", "fp16", "int32"] | None = None
    scope: Literal["chip", "pair", "rack", "pod", "socket", "model"] = "chip"
    source: Key
    where: str | None = Field(default=None, description="table, section or page in the source")
    date: datetime.date = Field(description="when the source was read, or its revision date")
    certainty: Certainty
    note: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_value(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "unit" in data:
            return data
        if not isinstance(data.get("value"), str):
            raise ValueError(
                f"value: {data.get('value')!r} must be a number with a unit, such as '3.35 TB/s'"
            )
        quantity = parse_quantity(data["value"])
        read = {**data, "value": float(quantity), "unit": quantity.unit, "printed": data["value"]}
        if data.get("range") is not None:
            ends = data["range"]
            if not isinstance(ends, (list, tuple)) or len(ends) != 2:
                raise ValueError(f"range: {ends!r} must be two quantities, lowest and highest")
            read["range"] = tuple(float(parse_quantity(end, quantity.unit)) for end in ends)
        return read

    @model_validator(mode="after")
    def _is_sound(self) -> Figure:
        if not self.value > 0:
            raise ValueError(f"value: {self.printed!r} must be greater than zero")
        if self.range and not self.range[0] <= self.value <= self.range[1]:
            raise ValueError(f"range: does not contain the value {self.printed}")
        return self

    @model_validator(mode="after")
    def _is_not_from_the_future(self) -> Figure:
        if self.date > datetime.date.today():
            raise ValueError(f"date: {self.date} is still to come; when was the source read?")
        return self

    @property
    def quantity(self) -> Quantity:
        """The value as a ``Quantity`` that carries this figure."""
        return Quantity(self.value, self.unit, self)

    def to(self, unit: str) -> float:
        """The value in another unit, as a plain float."""
        return convert(self.value, unit, self.unit)


class Peak(Figure):
    """A peak rate for one number format."""

    dtype: Dtype
    format: str | None = Field(default=None, description="encoding, if narrower than the dtype")


class NamedFigure(Figure):
    """A figure that needs a name: an on-chip memory, a pod's size."""

    name: str


class Link(Record):
    """A connection between chips. Its bandwidth has a direction; there is no number without."""

    name: Key
    label: str = Field(description="as the maker spells it")
    reach: Literal["all peers", "neighbours", "one peer", "host"] = "all peers"
    one_way_figure: Figure | None = Field(default=None, alias="one_way")
    both_ways_figure: Figure | None = Field(default=None, alias="both_ways")
    note: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _set_directions(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = dict(data)
            for field, direction in (("one_way", "one-way"), ("both_ways", "both-ways")):
                if isinstance(data.get(field), dict):
                    data[field] = {"direction": direction, **data[field]}
        return data

    @model_validator(mode="after")
    def _agree(self) -> Link:
        one, both = self.one_way_figure, self.both_ways_figure
        for figure, direction in ((one, "one-way"), (both, "both-ways")):
            if figure and (figure.unit != "B/s" or figure.direction != direction):
                raise ValueError(f"{direction} must be a {direction} bandwidth, such as 450 GB/s")
        if one and both and abs(2 * one.value / both.value - 1) > 0.01:
            raise ValueError(f"one_way: {one.printed} is not half of both_ways: {both.printed}")
        return self

    def bandwidth(self, direction: Literal["one-way", "both-ways"] | None = None) -> Quantity:
        """Bytes per second in the direction asked for.

        Parameters
        ----------
        direction : {"one-way", "both-ways"}
            Required: makers print both ways added, a transfer uses one way.

        Returns
        -------
        Quantity
            In B/s.

        Raises
        ------
        CatalogError
            If no direction is given.
        NotInCatalog
            If no bandwidth is published.
        """
        if direction not in ("one-way", "both-ways"):
            raise CatalogError(
                f"direction: {direction!r}; a link's bandwidth has a direction, ask for 'one-way'"
                " (what one transfer can use) or 'both-ways' (what makers print)"
            )
        one, both = self.one_way_figure, self.both_ways_figure
        figure = one if direction == "one-way" else both
        if figure is None:
            other = both if direction == "one-way" else one
            if other is None:
                raise NotInCatalog(f"link {self.name}: no bandwidth is published")
            value = other.value / 2 if direction == "one-way" else other.value * 2
            figure = other.model_copy(
                update={
                    "value": value,
                    "printed": f"{'half' if direction == 'one-way' else 'twice'} {other.printed}",
                    "direction": direction,
                    "certainty": "unconfirmed" if other.certainty == "unconfirmed" else "derived",
                    "note": f"computed from the {other.direction} figure, {other.printed}",
                }
            )
        return figure.quantity

    @property
    def one_way(self) -> Quantity:
        """Bandwidth in one direction, B/s."""
        return self.bandwidth("one-way")

    @property
    def both_ways(self) -> Quantity:
        """Bandwidth of both directions added, B/s."""
        return self.bandwidth("both-ways")


#: the slowest and the fastest memory beside a chip that we would believe without asking
BANDWIDTHS_B_PER_S = (20e9, 100e12)


class Chip(Record):
    """An accelerator, a processor, or a rack of them."""

    id: Key
    name: str
    short: str = Field(max_length=22, description="for plots and tables")
    aliases: tuple[str, ...] = ()
    vendor: str
    kind: Literal["gpu", "tpu", "accelerator", "sram", "wafer", "dataflow", "riscv", "cpu"]
    year: int = Field(ge=2000, le=2100)
    status: Literal["shipping", "announced", "retired"] = "shipping"
    scope: Literal["chip", "rack", "socket"] = "chip"
    chips: int = Field(default=1, ge=1, description="how many chips the record adds up")
    memory: str | None = Field(default=None, description="technology, such as HBM3")
    capacity_figure: Figure | None = Field(default=None, alias="capacity")
    bandwidth_figure: Figure | None = Field(default=None, alias="bandwidth")
    power_figure: Figure | None = Field(default=None, alias="power")
    peaks: tuple[Peak, ...] = Field(min_length=1)
    on_chip: tuple[NamedFigure, ...] = ()
    links: tuple[Link, ...] = ()
    others: tuple[NamedFigure, ...] = ()
    notes: tuple[str, ...] = ()
    traps: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _units_fit(self) -> Chip:
        wanted = (
            ("capacity", self.capacity_figure, "B"),
            ("bandwidth", self.bandwidth_figure, "B/s"),
            ("power", self.power_figure, "W"),
        )
        for field, figure, unit in wanted:
            if figure and figure.unit != unit:
                raise ValueError(f"{field}: {figure.printed!r} must be in {unit}")
        seen = set()
        for peak in self.peaks:
            unit = "OP/s" if peak.dtype.startswith("int") else "FLOP/s"
            if peak.unit != unit:
                raise ValueError(f"peaks: {peak.dtype} {peak.printed!r} must be in {unit}")
            key = (peak.dtype, peak.sparsity, peak.accumulate)
            if key in seen:
                raise ValueError(f"peaks: {peak.dtype} {peak.sparsity} stands twice")
            seen.add(key)
        names = [link.name for link in self.links]
        if len(set(names)) != len(names):
            raise ValueError(f"links: a name stands twice in {names}")
        return self

    @model_validator(mode="after")
    def _figures_agree(self) -> Chip:
        """What no chip does: a slip of the prefix or of a digit usually breaks one of these."""
        best = {
            (p.dtype, p.sparsity): p.value for p in sorted(self.peaks, key=lambda peak: peak.value)
        }
        for (dtype, sparsity), value in best.items():
            dense = best.get((dtype, "dense"))
            if sparsity == "sparse" and dense is not None and dense > value:
                raise ValueError(
                    f"peaks: {dtype} is higher dense ({dense:g}) than sparse ({value:g})"
                )
        wide = best.get(("bf16", "dense"))
        if wide is not None and best.get(("fp8", "dense"), wide) < wide:
            raise ValueError(f"peaks: fp8 is lower than bf16 ({wide:g})")
        bandwidth = self.bandwidth_figure
        low, high = BANDWIDTHS_B_PER_S
        off_chip = self.kind not in ("sram", "wafer") and self.scope == "chip"
        if bandwidth and off_chip and not low <= bandwidth.value <= high:
            raise ValueError(
                f"bandwidth: {bandwidth.printed!r} is not between {low / 1e9:g} GB/s and "
                f"{high / 1e12:g} TB/s, where memories outside of a chip lie; check the prefix"
            )
        return self

    def figures(self) -> tuple[tuple[str, Figure], ...]:
        """Every figure of this record with its path, for tables and tests."""
        found: list[tuple[str, Figure]] = []
        for path, figure in (
            ("capacity", self.capacity_figure),
            ("bandwidth", self.bandwidth_figure),
            ("power", self.power_figure),
        ):
            if figure:
                found.append((path, figure))
        for peak in self.peaks:
            kind = "" if peak.sparsity == "dense" else ".sparse"
            found.append((f"peak.{peak.dtype}{kind}", peak))
        found += [(f"on_chip.{item.name}", item) for item in self.on_chip]
        for link in self.links:
            for path, figure in (
                ("one-way", link.one_way_figure),
                ("both-ways", link.both_ways_figure),
            ):
                if figure:
                    found.append((f"link.{link.name}.{path}", figure))
        found += [(f"others.{item.name}", item) for item in self.others]
        return tuple(found)

    def dtypes(self, sparsity: Literal["dense", "sparse"] = "dense") -> tuple[str, ...]:
        """Number formats with a published peak, widest first."""
        return tuple(dict.fromkeys(p.dtype for p in self.peaks if p.sparsity == sparsity))

    def peak(
        self,
        dtype: str,
        sparsity: Literal["dense", "sparse"] = "dense",
        accumulate: Literal["fp32", "fp16", "int32"] | None = None,
    ) -> Quantity:
        """Peak arithmetic rate for a number format.

        Parameters
        ----------
        dtype : str
            ``"bf16"``, ``"fp8"``, ``"int8"`` ...
        sparsity : {"dense", "sparse"}
            Dense unless the sparse figure is asked for by name.
        accumulate : {"fp32", "fp16", "int32"}, optional
            What products are added up in, where the rate depends on it. The default is the
            widest one published, which is what training and serving use.

        Returns
        -------
        Quantity
            In FLOP/s, or OP/s for integer formats.

        Raises
        ------
        CatalogError
            If ``sparsity`` is neither dense nor sparse.
        NotInCatalog
            If the chip has no such peak; the message lists those it has.

        Examples
        --------
        >>> from helpers import catalog
        >>> print(catalog.chip("h100-sxm").peak("bf16"))
        989.4 TFLOP/s
        >>> print(catalog.chip("rtx-4090").peak("fp16", accumulate="fp16"))
        330.3 TFLOP/s
        """
        if sparsity not in ("dense", "sparse"):
            raise CatalogError(f"sparsity: {sparsity!r}; allowed are 'dense' and 'sparse'")
        wanted = str(dtype).strip().lower().replace("torch.", "")
        wanted = _DTYPE_NAMES.get(wanted, wanted)
        found = [p for p in self.peaks if p.dtype == wanted and p.sparsity == sparsity]
        if accumulate is not None:
            found = [p for p in found if p.accumulate == accumulate] or [
                p for p in found if p.accumulate is None and accumulate == "fp32"
            ]
        if found:
            order = {"fp32": 0, None: 1, "int32": 2, "fp16": 3}
            return min(found, key=lambda p: order[p.accumulate]).quantity
        extra = f" with {accumulate} accumulation" if accumulate else ""
        dense = ", ".join(self.dtypes()) or "none published"
        message = f"{self.id}: no {sparsity} {dtype} peak{extra}. Dense: {dense}"
        if self.dtypes("sparse"):
            message += f"; sparse: {', '.join(self.dtypes('sparse'))}"
        raise NotInCatalog(message)

    def _figure(self, figure: Figure | None, what: str) -> Quantity:
        if figure is None:
            raise NotInCatalog(f"{self.id}: no {what} is published; see its notes")
        return figure.quantity

    @property
    def capacity(self) -> Quantity:
        """Memory capacity, B."""
        return self._figure(self.capacity_figure, "memory capacity")

    @property
    def bandwidth(self) -> Quantity:
        """Memory bandwidth, B/s."""
        return self._figure(self.bandwidth_figure, "memory bandwidth")

    @property
    def power(self) -> Quantity:
        """Board or package power, W."""
        return self._figure(self.power_figure, "power")

    def link(self, name: str) -> Link:
        """A link by name, such as ``"nvlink-4"``.

        Raises
        ------
        NotInCatalog
            If the chip has no such link; the message lists those it has.
        """
        wanted = str(name).strip().lower().replace(" ", "-").replace("_", "-")
        for link in self.links:
            if wanted in (link.name, link.label.lower().replace(" ", "-")):
                return link
        have = ", ".join(link.name for link in self.links) or "none"
        raise NotInCatalog(f"{self.id}: no link {name!r}; it has: {have}")

    def ridge(self, dtype: str = "bf16") -> Quantity:
        """Arithmetic intensity at which compute and memory take equally long."""
        peak = self.peak(dtype)
        unit = "FLOP/B" if peak.unit == "FLOP/s" else "OP/B"
        return Quantity(peak / self.bandwidth, unit)


class Moe(Record):
    """Mixture of experts: which layers have experts, how many, and how many a token visits."""

    experts: int = Field(ge=2)
    experts_per_token: int = Field(ge=1)
    expert_ffn: int = Field(ge=1)
    shared_experts: int = Field(default=0, ge=0)
    dense_layers: int = Field(default=0, ge=0, description="leading layers with an ordinary MLP")
    router_bias: bool = Field(default=False, description="a correction bias per expert")
    groups: int | None = None
    groups_per_token: int | None = None


class Mla(Record):
    """Multi-head latent attention: the ranks of its compressed projections."""

    q_lora_rank: int = Field(ge=1)
    kv_lora_rank: int = Field(ge=1)
    qk_nope_head_dim: int = Field(ge=1)
    qk_rope_head_dim: int = Field(ge=1)
    v_head_dim: int = Field(ge=1)


class ExpectedModel(Record):
    """Published or counted totals that the formulas must reproduce."""

    parameters: Figure
    active_parameters: Figure | None = None
    kv_per_token: Figure = Field(description="bytes per token with 2-byte values")
    published_parameters: Figure | None = None
    published_active_parameters: Figure | None = None


class Model(Record):
    """A transformer's shape, exact enough to count its parameters and its cache."""

    id: Key
    name: str
    aliases: tuple[str, ...] = ()
    developer: str
    year: int = Field(ge=2017, le=2100)
    layers: int = Field(ge=1)
    d_model: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    ffn: int = Field(ge=1)
    vocab: int = Field(ge=1)
    context: int = Field(ge=1)
    window: int | None = Field(default=None, description="sliding attention window, tokens")
    tied_embeddings: bool
    attention: Literal["mha", "gqa", "mqa", "mla"]
    norm: Literal["layernorm", "rmsnorm"]
    positions: Literal["learned", "rope"]
    mlp: Literal["gelu", "swiglu"]
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    moe: Moe | None = None
    mla: Mla | None = None
    source: Key
    where: str
    date: datetime.date
    certainty: Certainty
    expected: ExpectedModel
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _shapes_fit(self) -> Model:
        if self.heads % self.kv_heads:
            raise ValueError(
                f"kv_heads: {self.kv_heads} does not divide the {self.heads} query heads"
            )
        if (self.attention == "mla") != (self.mla is not None):
            raise ValueError("mla: needed exactly when attention is 'mla'")
        kind = {"mha": self.kv_heads == self.heads, "mqa": self.kv_heads == 1}
        if self.attention == "gqa":
            kind["gqa"] = 1 < self.kv_heads < self.heads
        if not kind.get(self.attention, True):
            raise ValueError(
                f"attention: {self.attention!r} does not fit {self.heads} heads"
                f" and {self.kv_heads} kv_heads"
            )
        return self

    @property
    def parameters(self) -> int:
        """All parameters, as counted from the shape."""
        return int(self.expected.parameters.value)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses; all of them unless the model has experts."""
        active = self.expected.active_parameters
        return int(active.value) if active else self.parameters

    @property
    def kv_per_token(self) -> Quantity:
        """Cache bytes per token with 2-byte values."""
        return self.expected.kv_per_token.quantity


class Claim(Record):
    """A published statement and what a check makes of it."""

    id: Key
    number: int | None = Field(default=None, ge=1, description="in the ledger of all claims")
    statement: str = Field(min_length=10, description="in our own words")
    where_met: str = Field(min_length=5, description="the kind of document, or the vendor or paper")
    kind: Literal["wrong", "contradiction", "units", "misattributed", "unverifiable", "right"]
    verdict: str = Field(min_length=2, description="one or two plain sentences")
    corrected: str | None = Field(default=None, description="what to say instead")
    claimed_value: str | None = Field(default=None, description="as met, a number with its unit")
    corrected_value: str | None = Field(
        default=None, description="a number with its unit; the check must reproduce it"
    )
    tolerance: float = Field(default=0.005, gt=0, le=0.2, description="of the check, relative")
    check: str | None = Field(
        default=None,
        pattern=r"^helpers\.claims\.[a-z_.]+:[a-z_0-9]+$",
        description="the function that checks it, as helpers.claims.roofline:function_name",
    )
    sources: tuple[Key, ...] = ()
    confidence: Literal["high", "medium", "low"]
    chapter: Key

    @model_validator(mode="after")
    def _wrong_needs_right(self) -> Claim:
        if self.kind in ("wrong", "contradiction", "units", "misattributed") and not self.corrected:
            raise ValueError(f"corrected: a claim of kind {self.kind!r} needs the corrected text")
        return self


class Term(Record):
    """A glossary entry."""

    term: str = Field(min_length=1)
    definition: str = Field(min_length=20)
    see_also: tuple[str, ...] = ()
    taught: str = Field(description="label of the section that teaches it")


class Trap(Record):
    """A way in which spec sheets mislead, and the chips it concerns."""

    id: Key
    title: str
    text: str
    sources: tuple[Key, ...] = ()

    @field_validator("text")
    @classmethod
    def _one_paragraph(cls, text: str) -> str:
        return " ".join(text.split())
