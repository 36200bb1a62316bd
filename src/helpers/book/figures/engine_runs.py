"""Tables of the engine's recorded runs: what each of its ideas is worth, predicted and measured."""

from __future__ import annotations

from helpers.bench.contest import Contest
from helpers.bench.serving import ServingRun
from helpers.bench.speculation import SpeculationRun
from helpers.book.tables import Cell, Column, Table


def where_and_when(run: ServingRun | SpeculationRun) -> str:
    """The machine, the threads, the versions and the day of a run, in a line."""
    machine = run.environment
    threads = f"{run.threads} thread{'' if run.threads == 1 else 's'}"
    return (
        f"Recorded {run.created.isoformat()} on {machine.label}, {threads}, Python "
        f"{machine.python}, torch {machine.torch}: {run.command}."
    )


def _ratio(contest: Contest) -> Cell:
    low, high = min(contest.ratios), max(contest.ratios)
    return Cell(f"{contest.ratio:.2f} ({low:.2f} to {high:.2f})", contest.ratio)


def contest_table(run: ServingRun) -> Table:
    """Each contest of a run: both rates and their ratio, with its least and largest sample."""
    rows = []
    for contest in run.contests:
        ours, other = contest.tokens_per_s
        rows.append(
            [contest.name, contest.ours.name, Cell(f"{ours:,.0f}", ours), contest.other.name,
             Cell(f"{other:,.0f}", other), _ratio(contest)]
        )  # fmt: skip
    columns = [Column("Contest", text=True), Column("One way", text=True),
               Column("Rate", "tokens/s"), Column("The other", text=True),
               Column("Rate", "tokens/s"), Column("Ratio", "median, and range")]  # fmt: skip
    return Table(
        "What the engine's ideas are worth", columns, rows, sortable=False, note=where_and_when(run)
    )


def cache_table(run: ServingRun) -> Table:
    """The engine's cache in each format: bytes by the formula, and as allocated."""
    rows = [
        [one.format, f"{one.blocks:,}", str(one.block_size), f"{one.predicted_bytes:,}",
         f"{one.allocated_bytes:,}"]
        for one in run.caches
    ]  # fmt: skip
    columns = [Column("Format", text=True), Column("Blocks"), Column("Tokens", "a block"),
               Column("Predicted", "bytes"), Column("Allocated", "bytes")]  # fmt: skip
    return Table("Memory of the paged cache", columns, rows, sortable=False)


def draft_table(run: SpeculationRun) -> Table:
    """Each draft at each number of guesses: acceptance, tokens a round, costs and speed-up."""
    rows = [
        [one.name, str(one.draft_tokens), f"{one.acceptance:.3f}",
         f"{one.tokens_per_round_predicted:.2f}, {one.tokens_per_round:.2f}",
         f"{one.draft_cost:.3f}, {one.verify_cost:.2f}", f"{one.speedup_predicted:.2f}",
         _ratio(one.race)]
        for one in run.drafts
    ]  # fmt: skip
    columns = [Column("Draft", text=True), Column("Guesses", "a round"), Column("Acceptance"),
               Column("Tokens a round", "predicted, counted"),
               Column("Cost in steps", "guess, check"),
               Column("Speed-up", "predicted"),
               Column("Speed-up", "median, and range")]  # fmt: skip
    return Table(
        "Speculative decoding, greedy, one sequence", columns, rows, sortable=False,
        note="A step is one token of the target alone. " + where_and_when(run),
    )  # fmt: skip
