"""``llm4cdsr forget``: removes users from a store."""

from flows.cli.options.opened_store import existing_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.options.user_ids import IdsFile, Users, given_users
from flows.cli.output import terminal

EXAMPLES = (
    "Examples:\n\n"
    "llm4cdsr forget u1742 u1743\n\n"
    "llm4cdsr forget --ids leavers.txt\n\n"
    "cat leavers.txt | llm4cdsr forget --ids -"
)


def forget_command(
    users: Users = None,
    ids: IdsFile = None,
    store: StoreRoot = None,
) -> None:
    """Remove users from data sets, profiles, lists, reports, the ledger and dump copies.

    Keyed hashes of their ids are kept, so that later dumps do not add them again. Without ids, an
    interrupted removal is completed.
    """
    from artifacts.forgotten import is_interrupted
    from tasks.forgetting.forget import NOT_REMOVED, forget

    terminal.show_logs(verbose=False)
    opened = existing_store(store)
    is_late = not users and ids is None and is_interrupted(opened)
    wanted = [] if is_late else given_users(users, ids)
    removed = forget(opened, wanted)
    if is_late:
        terminal.out.print("The interrupted removal is complete.")
        return
    table = terminal.table("Removed", "what", ">count")
    for what, count in removed.counts.items():
        table.add_row(what.replace("_", " "), f"{count:,}")
    if removed.counts:
        terminal.out.print(table)
    found = len(removed.users & set(wanted))
    terminal.out.print(
        f"{found:,} of {len(set(wanted)):,} were in a dataset of this store. All are remembered as "
        "keyed hashes: ingest drops them from every later dump, counted as 'forgotten user'."
    )
    terminal.out.print("Not removed:")
    for each in NOT_REMOVED:
        terminal.say(f"- {each}")
