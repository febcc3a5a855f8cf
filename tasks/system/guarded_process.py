"""A process tree that cannot outlive the program that started it.

`GuardedProcess` starts this file as a guard process, which starts the command in its own process
group. The guard reads a pipe whose only writer is the program: when the program ends, also by `kill
-9`, the pipe closes and the guard ends the group. PR_SET_PDEATHSIG would be shorter, but it fires
when the starting *thread* ends, which a worker thread does long before the program, and it is not
passed on to grandchildren.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_POLL_SECONDS = 0.1
# Additional seconds before the guard is killed with its group.
_GUARD_SLACK_SECONDS = 5.0


class GuardedProcess:
    """A running command with its descendants in its process group.

    Output is written to `log`, which is truncated first. The group gets SIGTERM, then SIGKILL after
    `grace` seconds.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, grace: float
    ) -> None:
        self._grace = grace
        guard = [sys.executable, "-I", "-S", __file__, str(grace), *command]
        with log.open("wb") as output:
            self._guard = subprocess.Popen(
                guard,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is handled by the program, not by the group
            )

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    def stop(self) -> None:
        """Ends the whole group and waits for its end. Idempotent."""
        pipe = self._guard.stdin
        if pipe is None or pipe.closed:
            return
        pipe.close()
        try:
            self._guard.wait(self._grace + _GUARD_SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            _signal_group(self._guard.pid, signal.SIGKILL)
            self._guard.wait()
        _signal_group(self._guard.pid, signal.SIGKILL)  # if the guard itself was killed


def _guard(grace: float, command: list[str]) -> None:
    """Runs `command` until it or the parent ends, then ends the group and this process."""
    parent = os.getppid()
    # A handler instead of SIG_IGN, which the command would inherit.
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # The parent's id is checked as well, because a fork of the parent would keep the pipe open.
    while child.poll() is None and os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], _POLL_SECONDS)
        if readable:
            break
    if child.poll() is not None:
        print(f"ended with exit code {child.returncode}", file=sys.stderr, flush=True)
    _signal_group(os.getpgrp(), signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and _others_in_group(child):
        time.sleep(_POLL_SECONDS)
    _signal_group(os.getpgrp(), signal.SIGKILL)


def _others_in_group(child: subprocess.Popen[bytes]) -> bool:
    child.poll()  # reaps it, so that it stops counting
    group = os.getpgrp()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name is arbitrary; fields after its closing bracket: state, parent, group.
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # ended in the meantime
            continue
        if int(fields[2]) == group and status.parent.name != str(os.getpid()) and fields[0] != "Z":
            return True
    return False


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # already ended


if __name__ == "__main__":
    _guard(float(sys.argv[1]), sys.argv[2:])
