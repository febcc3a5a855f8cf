"""``llm4cdsr shown-users``: hashed names of users."""

from flows.cli.options.opened_store import existing_store
from flows.cli.options.shared_options import StoreRoot
from flows.cli.options.user_ids import IdsFile, Users, given_users
from flows.cli.output import terminal

EXAMPLES = "Examples:\n\nllm4cdsr shown-users u1742\n\nllm4cdsr shown-users --ids - < ids.txt"


def shown_users_command(users: Users = None, ids: IdsFile = None, store: StoreRoot = None) -> None:
    """Print the hashed names of users (LLM4CDSR_SHOWN_USERS=hashed), one per line.

    A store uses one name per user in reports, logs, terminal output and the page.
    """
    from artifacts.shown_users import hashed_users

    wanted = given_users(users, ids)
    hashed = hashed_users(existing_store(store))
    for user in wanted:
        terminal.out.print(hashed.name(user), highlight=False)
