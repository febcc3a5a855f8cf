"""The console script: sets what Prefect, OpenMP and HTTP clients read from the environment, then
hands over to `flows.cli.command_table`."""

import os
import sys

from model.launch import is_torchrun
from tasks.system.proxies import tame_proxy_variables

OPENMP = {
    # Idle OpenMP threads spin by default. Beside another busy process that starves the others:
    # training was 45 times slower on 4 cores of which one was taken, and is not with this.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Those that sleep at once are woken for every small operation: a few microseconds of waiting
    # make training half as fast again on idle cores, and cost a quarter beside a busy process.
    "GOMP_SPINCOUNT": "1000",
}
PREFECT_LOGGING = {
    # A failure reaches the terminal once, as our own message; the traces go to the server.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "llm4cdsr",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def main() -> None:
    """Runs the command line."""
    for name, value in (PREFECT_LOGGING | OPENMP).items():
        os.environ.setdefault(name, value)
    tame_proxy_variables()
    from flows.cli.command_table import run_app

    if not is_torchrun():
        run_app()
        return
    status = 0
    try:
        run_app()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written. Threads of gloo may abort a process that is being torn down, and torchrun
    # would take that for a failed training.
    os._exit(status)


if __name__ == "__main__":
    main()
