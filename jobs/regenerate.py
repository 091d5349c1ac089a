"""`zoomtrail regenerate`: further attempts at the questions that have rows of some kind, beside all that is there."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from jobs.changes import changed_config, parsed, recorded
from jobs.generate import carry_out, checked_protocol, ray_session
from jobs.runs import Begun, Run, absolute, begun, settings_of
from jobs.tables import add_row, new_table, print_table, printable
from pipeline.driver_lock import driving
from pipeline.plan import Plan, Planned
from pipeline.plan_parts import ShardRows
from pipeline.store import RunStore
from schemas.arrow import from_table
from schemas.config import STAGES, RunConfig, changed
from schemas.errors import UserError
from schemas.generation import Generation, StageSettings
from schemas.question import Question


@dataclass(frozen=True)
class Wanted:
    """What to make anew. where: a condition on rows; all_attempts: each row of a question must meet it, and not any.

    attempts: new ones per question; limit: questions at most. changes: as in `--set`. again: order a further batch
    where one by this order is finished.
    """

    where: str
    attempts: int = 1
    changes: tuple[str, ...] = ()
    all_attempts: bool = False
    limit: int | None = None
    again: bool = False


def regenerate(run: str, wanted: Wanted, dry_run: bool, address: str) -> None:
    """Orders new attempts and makes them, or goes on with those that the same arguments have ordered.

    No row, caption or reply that is there changes. Raises UserError for the user's mistakes, Fatal where it cannot go
    on; the same command goes on from there.
    """
    if not wanted.where.strip():
        raise UserError("--where is missing: the condition on rows whose questions get new attempts")
    of = begun(run)
    changes = parsed(wanted.changes)
    written = changed_config(of, changes)
    config = of.carried_out(written)
    checked_protocol(config)
    if dry_run:
        _price_order(of, config, *_looked_up(of, wanted, changes, written))
        return
    with driving(of.url) as driver:
        found = _ordered(of, changes, config, *_looked_up(of, wanted, changes, written))
        if found is None:
            return
        with ray_session(config.workers, address) as crew:
            carry_out(found, crew, driver)
    print(f"done: {_said(found)}; see `zoomtrail stats {run} --where 'generation = {found.regeneration}'`")


def _looked_up(
    of: Begun, wanted: Wanted, changes: dict[str, Any], written: RunConfig
) -> tuple[Plan, Generation, Run | None]:
    """The plan, what is wanted as an order, and the regeneration that this goes on with; None where one is to begin."""
    plan = Plan(RunStore(of.url))
    order = _order(wanted, plan, recorded(changes), settings_of(written))
    before = next(filter(order.same_order, reversed(plan.generations)), None)
    found = of.regeneration(before, plan, changes) if before else None
    if found is not None and found.finished() and wanted.again:
        return plan, order, None
    if found is not None:
        finished = f"nothing to do: {_said(found)} is finished; --again orders a further one"
        print(finished if found.finished() else f"going on with {_said(found)}")
    return plan, order, found


def _price_order(of: Begun, config: RunConfig, plan: Plan, order: Generation, found: Run | None) -> None:
    """Prints what an order would cost, or what is missing of one that was begun."""
    if found is None:
        _price(config, [question for question in _chosen(of, plan, order) for _ in range(order.attempts)])
    elif not found.finished():
        _price(config, _untaught(found))


def _ordered(
    of: Begun, changes: dict[str, Any], config: RunConfig, plan: Plan, order: Generation, found: Run | None
) -> Run | None:
    """The regeneration to be carried out, planned where it is new; None where there is nothing to do."""
    if found is not None:
        return None if found.finished() else found
    questions = _chosen(of, plan, order)
    if not questions:
        _price(config, [])
        return None
    plan.regenerate(questions, order, config.workers.videos_per_shard)
    found = of.regeneration(order, plan, changes)
    _print_order(of, order, found)
    return found


def list_regenerations(run: str) -> None:
    """Prints what was ordered so far. Raises UserError where the run is none."""
    store = RunStore(absolute(run)).require()
    plan, settings = Plan(store), (store.recorded_settings() or {})["replay"]
    if not plan.generations:
        print('nothing was regenerated yet; --where "..." says which questions get new attempts')
        return
    done = set.intersection(*(store.finished(stage) for stage in STAGES))
    table = new_table("Regenerations", ("",), ("attempts", "shards", "finished"), "ordered")
    for each in plan.generations:
        shards = plan.shards(each.number)
        finished = len(shards.keys() & done)
        differences = "; ".join(changed(settings, each.settings["replay"]))
        what = each.where + (f" ({differences})" if differences else "")
        add_row(table, each.number, sum(shard.attempts for shard in shards.values()), len(shards), finished, what)
    plain = not sys.stdout.isatty()
    print_table(Console(highlight=False, width=200 if plain else None, no_color=plain), table, plain)


def _order(wanted: Wanted, plan: Plan, changes: dict[str, Any], settings: StageSettings) -> Generation:
    return Generation(
        number=len(plan.generations) + 1,
        where=wanted.where.strip(),
        all_attempts=wanted.all_attempts,
        limit=wanted.limit,
        attempts=wanted.attempts,
        changes=changes,
        settings=settings,
    )


def _chosen(of: Begun, plan: Plan, ordered: Generation) -> list[Question]:
    """The questions that get new attempts, in the plan's order; says how many there are. Raises UserError."""
    from pipeline.shards.questions import questions_where
    from pipeline.shards.table import Rows

    store = RunStore(of.url)
    ids = questions_where(Rows(store), ordered.where, ordered.all_attempts)
    usable = [planned.question for planned in plan.questions(ids) if planned.error is None]
    print(f"{len(ids)} of {plan.n_questions} questions meet the condition")
    if bad := len(ids) - len(usable):
        print(f"  {bad} of them come from unusable source rows, and are left out")
    if ordered.limit is not None and len(usable) > ordered.limit:
        print(f"  the first {ordered.limit} are taken (--limit)")
    if waiting := len(plan.shards().keys() - store.finished("replay")):
        print(f"  the run has {waiting} unfinished shards, whose rows were not looked at; `zoomtrail generate` goes on")
    return usable[: ordered.limit]


def _print_order(of: Begun, ordered: Generation, found: Run) -> None:
    print(_said(found))
    settings = settings_of(of.written)
    for difference in changed(settings["replay"], ordered.settings["replay"]):
        print(f"  {printable(difference)}")
    teacher = found.config.student or found.config.teacher
    if ordered.settings["teach"] == settings["teach"] and getattr(teacher, "temperature", None) == 0:
        print("  temperature is 0: new attempts will be much like the old ones; --set teacher.temperature=1")


def _said(found: Run) -> str:
    return f"regeneration {found.regeneration}: {found.attempts} attempts in {len(found.shards)} shards of {found.url}"


def _untaught(found: Run) -> list[Question]:
    """The question of each attempt that is not made yet."""
    rows, taught = ShardRows(RunStore(found.url), found.shards), found.done["teach"]
    left = (from_table(Planned, rows.of(shard)) for shard in found.shards if shard not in taught)
    return [planned.question for shard in left for planned in shard]


def _price(config: RunConfig, asked: Sequence[Question]) -> None:
    """asked: the question of each attempt."""
    videos = Counter(question.video_id for question in asked)
    print(f"{len(asked)} attempts on {len(videos)} videos")
    if videos:
        from jobs.estimate import print_price

        print_price(config, videos, sum(question.kind == "open" for question in asked), captions=False)
