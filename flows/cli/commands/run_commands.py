"""The commands that run flows: `llm4cdsr run`, `refresh` and `retrain`.

What works is imported when it is called: `--help` needs neither Prefect nor Polars, and a refresh
no PyTorch.
"""

from flows.cli import options as opt
from flows.cli import training_options as fit
from tasks.dump.merge_mode import Mode

RUN_EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr run --interactions events.parquet --items items.parquet\n\n"
    "llm4cdsr run --interactions e.csv --items i.csv --column reviewerID=user_id "
    "--max-users 3000 --profile-users 300 --summary run.json\n\n"
    "llm4cdsr run --dataset cloth-sport --raw downloads\n\n"
    "llm4cdsr run --interactions today.parquet --items items.parquet --mode append\n\n"
    "llm4cdsr run --interactions e.csv --items i.csv --dry-run\n\n"
    "llm4cdsr run --interactions e.csv --items i.csv --max-usd 5"
)
REFRESH_EXAMPLES = (
    "Example:\n\nllm4cdsr refresh --interactions events.parquet --items items.parquet"
)
RETRAIN_EXAMPLES = (
    "Examples:\n\nllm4cdsr retrain\n\nllm4cdsr retrain --preset paper --seed 1\n\n"
    "llm4cdsr retrain --set train.accumulate=4 --set model.blocks=1"
)


def run(
    interactions: opt.Interactions = None,
    items: opt.Items = None,
    name: opt.Name = None,
    column: opt.Column = None,
    domain: opt.Domain = None,
    max_users: opt.MaxUsers = None,
    user_core: opt.UserCore = None,
    item_core: opt.ItemCore = None,
    dataset: opt.Dataset = None,
    raw: opt.Raw = None,
    since: opt.Since = None,
    until: opt.Until = None,
    split: opt.Split = None,
    validation_from: opt.FirstDay = None,
    test_from: opt.FirstDay = None,
    mode: opt.HowToMerge = Mode.FULL,
    profile_users: opt.ProfileUsers = None,
    clusters: opt.Clusters = 10,
    preset: fit.Preset = None,
    epochs: fit.Epochs = None,
    replaced: fit.Replaced = None,
    device: fit.Device = "auto",
    compiled: fit.Compiled = False,
    test_events: fit.TestEvents = None,
    ablation_users: fit.AblationUsers = 2_000,
    per_domain: fit.PerDomain = 10,
    serve_anyway: fit.ServeAnyway = False,
    seed: opt.Seed = 0,
    provider: opt.WhoAnswers = None,
    language: opt.PromptLanguage = None,
    batch: opt.Batches = None,
    max_usd: opt.MaxUsd = None,
    max_tokens: opt.MaxTokens = None,
    max_requests: opt.MaxRequests = None,
    dry_run: opt.DryRun = False,
    store: opt.StoreRoot = None,
    report: opt.ReportFile = None,
    summary: opt.SummaryFile = None,
    verbose: opt.Verbose = False,
) -> None:
    """Refresh, then retrain: from a dump to recommendations, paying only for what is new.

    Runs are recorded with the Prefect API of PREFECT_API_URL, or with a server of our own that
    lives as long as the run.
    """
    from flows.cli import configurations as made
    from flows.settings import Settings

    settings = Settings()
    chosen = made.named_dataset(dataset, raw, interactions)
    dump = made.dump_config(
        interactions,
        items,
        column,
        domain,
        max_users,
        user_core,
        item_core,
        seed,
        (since, until),
        made.split_of(split, validation_from, test_from),
        mode,
        chosen,
        raw,
    )
    made.require_headers(dump)
    from flows.cli import running  # Loads Prefect: that is not waited for by a mistake.

    running.refuse_torchrun()
    refreshing = made.refresh_config(clusters, profile_users, seed)
    training = fit.training_config(
        preset,
        epochs,
        replaced,
        seed,
        device,
        chosen.training if chosen else None,
        compiled,
        refreshing.tables.hidden,
    )
    spoken = language or (chosen.language if chosen else None)
    llm = made.llm_config(settings, provider, spoken, max_usd, max_tokens, max_requests, batch)
    if dry_run:
        running.tell_plan(dump, refreshing, llm, store or settings.store)
        return
    title = made.title_of(name or (chosen.title if chosen else None), interactions)
    with running.recorded(settings, store, verbose) as root:
        from flows.pipeline import pipeline
        from flows.unrecorded import call

        retraining = fit.retrain_config(
            training, per_domain, test_events, ablation_users, serve_anyway=serve_anyway
        )
        done = call(pipeline, dump, title, refreshing, retraining, llm, root)
    running.tell(root, done.stages, report, summary)
    if chosen is not None:
        running.tell_expected(chosen.expected, done.refreshed.dataset)
    running.tell_release(done.release, store)


def refresh_command(
    interactions: opt.Interactions = None,
    items: opt.Items = None,
    column: opt.Column = None,
    domain: opt.Domain = None,
    max_users: opt.MaxUsers = None,
    user_core: opt.UserCore = None,
    item_core: opt.ItemCore = None,
    dataset: opt.Dataset = None,
    raw: opt.Raw = None,
    since: opt.Since = None,
    until: opt.Until = None,
    split: opt.Split = None,
    validation_from: opt.FirstDay = None,
    test_from: opt.FirstDay = None,
    mode: opt.HowToMerge = Mode.FULL,
    profile_users: opt.ProfileUsers = None,
    clusters: opt.Clusters = 10,
    seed: opt.Seed = 0,
    provider: opt.WhoAnswers = None,
    language: opt.PromptLanguage = None,
    batch: opt.Batches = None,
    max_usd: opt.MaxUsd = None,
    max_tokens: opt.MaxTokens = None,
    max_requests: opt.MaxRequests = None,
    dry_run: opt.DryRun = False,
    store: opt.StoreRoot = None,
    summary: opt.SummaryFile = None,
    verbose: opt.Verbose = False,
) -> None:
    """From a dump to item tables and user profiles; asks the LLM only for what is new."""
    from flows.cli import configurations as made
    from flows.settings import Settings

    settings = Settings()
    chosen = made.named_dataset(dataset, raw, interactions)
    dump = made.dump_config(
        interactions,
        items,
        column,
        domain,
        max_users,
        user_core,
        item_core,
        seed,
        (since, until),
        made.split_of(split, validation_from, test_from),
        mode,
        chosen,
        raw,
    )
    made.require_headers(dump)
    from flows.cli import running  # Loads Prefect: that is not waited for by a mistake.

    running.refuse_torchrun()
    refreshing = made.refresh_config(clusters, profile_users, seed)
    spoken = language or (chosen.language if chosen else None)
    llm = made.llm_config(settings, provider, spoken, max_usd, max_tokens, max_requests, batch)
    if dry_run:
        running.tell_plan(dump, refreshing, llm, store or settings.store)
        return
    with running.recorded(settings, store, verbose) as root:
        from flows.refresh import refresh
        from flows.unrecorded import call

        stages = call(refresh, dump, refreshing, llm, root).stages
    running.tell(root, stages, None, summary)
    if chosen is not None:
        running.tell_expected(chosen.expected, stages[0])


def retrain_command(
    name: opt.Name = None,
    preset: fit.Preset = None,
    epochs: fit.Epochs = None,
    replaced: fit.Replaced = None,
    device: fit.Device = "auto",
    compiled: fit.Compiled = False,
    test_events: fit.TestEvents = None,
    ablation_users: fit.AblationUsers = 2_000,
    per_domain: fit.PerDomain = 10,
    serve_anyway: fit.ServeAnyway = False,
    seed: opt.Seed = 0,
    store: opt.StoreRoot = None,
    report: opt.ReportFile = None,
    summary: opt.SummaryFile = None,
    verbose: opt.Verbose = False,
) -> None:
    """From the latest refresh to a model, its recommendations and a report."""
    from flows.cli import configurations as made
    from flows.cli import running
    from flows.settings import Settings

    running.refuse_torchrun()
    settings = Settings()
    training = fit.training_config(preset, epochs, replaced, seed, device, compiled=compiled)
    with running.recorded(settings, store, verbose) as root:
        from flows.retrain import retrain
        from flows.unrecorded import call

        retraining = fit.retrain_config(
            training, per_domain, test_events, ablation_users, serve_anyway=serve_anyway
        )
        release = call(retrain, retraining, made.title_of(name, None), store=root)
    running.tell(root, release.stages, report, summary)
    running.tell_release(release, store)
