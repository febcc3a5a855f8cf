"""The console script: sets what Prefect, OpenMP and HTTP clients read from the environment, then
hands over to `flows.cli.command_table`."""

import os

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
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def main() -> None:
    """Runs the command line."""
    for name, value in (PREFECT_LOGGING | OPENMP).items():
        os.environ.setdefault(name, value)
    spare_this_machine_the_proxy()
    from flows.cli.command_table import run_app

    run_app()


def spare_this_machine_the_proxy() -> None:
    """Adds this machine to `NO_PROXY`: where a company's proxy is set, Prefect's server and local
    models would be looked for behind it."""
    for name in ("NO_PROXY", "no_proxy"):
        spared = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys((*spared, *THIS_MACHINE)))


if __name__ == "__main__":
    main()
