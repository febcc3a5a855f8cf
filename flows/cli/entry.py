"""Console script: sets environment variables of Prefect, OpenMP and HTTP clients, then runs
`flows.cli.command_table`."""

import os
import sys

from model.launch import is_torchrun
from tasks.system.proxies import tame_proxy_variables

OPENMP = {
    # Idle OpenMP threads spin by default and starve other threads beside a busy process: without
    # this setting, training was 45 times slower on 4 cores with one of them busy.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Threads that sleep immediately are woken for every small operation: some microseconds of
    # spinning speed training up by half on idle cores, and cost a quarter beside a busy process.
    "GOMP_SPINCOUNT": "1000",
}
PREFECT_LOGGING = {
    # A failure is printed once, as the product's message; tracebacks go to the server.
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
    # All results are written. Gloo threads may abort a process during its exit, which torchrun
    # would report as a failed training.
    os._exit(status)


if __name__ == "__main__":
    main()
