"""`llm4cdsr worth`: measures the gain from the LLM on a sample of users."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import shared_options as opt
from flows.cli.options import training_options as fit
from flows.cli.options.option_classes import DumpOptions, LlmOptions, Only, with_fields
from flows.cli.options.training_options import FitOptions
from flows.cli.output import terminal

if TYPE_CHECKING:
    from flows.cli.dry_run import PlannedCalls

EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr worth --interactions events.parquet --items items.parquet --profile-users 500\n\n"
    "llm4cdsr worth --interactions e.csv --items i.csv --preset single --max-usd 2"
)

ProfileSample = Annotated[
    int, typer.Option(min=0, help="Number of users in the seeded sample to profile.")
]
MeasuredUsers = Annotated[
    int,
    typer.Option(
        min=30,
        help="Users in the sample that measures the gain from item texts and user profiles.",
    ),
]


READ = ("interactions", "items", "column", "where", "domain", "dataset", "raw")


@with_fields
def worth(
    *,
    read: Annotated[DumpOptions, Only(*READ, "profile_style", "clusters")],
    profile_users: ProfileSample = 500,
    preset: fit.SamplePreset = "single",
    fitting: Annotated[FitOptions, Only("replaced", "device")],
    ablation_users: MeasuredUsers = 2_000,
    seed: opt.Seed = 0,
    ask: Annotated[LlmOptions, Only("provider", "language", "max_usd")],
    store: opt.StoreRoot = None,
    verbose: opt.Verbose = False,
) -> None:
    """Measure the gain from item texts and profiles on a sample of users.

    Makes no release. Answers stay in the ledger, so a later run pays for the remaining users only.
    """
    from artifacts.store import Store
    from flows.cli import running
    from flows.cli.dry_run import plan_refresh
    from flows.cli.options import configurations as made
    from flows.cli.output import console
    from flows.settings import Settings

    settings = Settings()
    chosen = made.named_dataset(read)
    dump = made.dump_config(read, seed, chosen)
    sample = made.refresh_config(replace(read, profile_users=profile_users), seed)
    wanted = replace(fitting, preset=preset)
    training = fit.training_config(wanted, seed, width=sample.tables.hidden)
    llm = made.llm_config(settings, ask, chosen)
    root = store or settings.store
    with running.recorded(root, verbose):
        from flows.pilot import pilot
        from flows.unrecorded import call
        from tasks.ablate import AblationConfig

        ablation = AblationConfig(users=ablation_users, seed=seed)
        done = call(pilot, dump, sample, training, ablation, llm, root)
    terminal.out.print(console.stage_table(done.stages))
    for line in console.facts_of(done.stages):
        terminal.out.print(line)
    if (table := console.ablation_table(Store(root), done.ablation.ref)).row_count:
        terminal.out.print(table)
    for line in console.facts_of_ablation(Store(root), done.ablation.ref):
        terminal.out.print(line)
    terminal.out.print(
        cost_of_all_profiles(plan_refresh(dump, made.refresh_config(read, seed), llm, root))
    )


def cost_of_all_profiles(planned: "tuple[PlannedCalls, ...]") -> str:
    """Returns the remaining prompts and cost of profiling all users, and the option to omit
    profiles."""
    requests = sum(step.requests for step in planned)
    if not requests:
        return "All users have profiles: a run sends no further prompt."
    costs = [step.usd for step in planned if step.requests]
    usd = sum(cost for cost in costs if cost is not None)
    price = f"for at most ${usd:,.2f}" if usd else "free of charge"
    if None in costs:
        price = "at an unknown price (set LLM4CDSR_PRICES)"
    return (
        f"Profiles of all users need about {requests:,} more requests, {price}. "
        "`llm4cdsr run --profile-users 0` sends none of them."
    )
