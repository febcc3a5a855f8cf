"""A process tree that cannot outlive the program that started it.

This file is both ends. `GuardedProcess` starts this same file as a small guard process, and the
guard starts the command in a process group that it leads. The guard holds the read end of a pipe
whose only writer is us: however we end, also by `kill -9`, the pipe closes and the guard ends the
group. PR_SET_PDEATHSIG would be shorter, but it fires when the starting *thread* ends, which a
worker thread does long before the program, and it is not passed on to grandchildren.
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
# How much longer than its own grace the guard may take before it is killed with its group.
_GUARD_SLACK_SECONDS = 5.0


class GuardedProcess:
    """A running command with all its descendants, as long as they stay in its process group.

    What they print goes to `log`, which is begun anew. The group gets SIGTERM, then after
    `grace` seconds SIGKILL.
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
                start_new_session=True,  # Ctrl-C is for us to handle, not for the group
            )

    @property
    def running(self) -> bool:
        return self._guard.poll() is None

    def stop(self) -> None:
        """End the whole group and wait until it is gone. A second call does nothing."""
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
    """Run `command` until it ends or our parent does, then end everything, ourselves included."""
    parent = os.getppid()
    # A handler and not SIG_IGN: what is ignored stays ignored in the command, too.
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # The parent's id is looked at as well, because a copy of our parent made by fork() would
    # keep the pipe open after its death.
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
            # The name may hold anything; after its closing bracket: state, parent, group.
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it ended while we looked
            continue
        if int(fields[2]) == group and status.parent.name != str(os.getpid()) and fields[0] != "Z":
            return True
    return False


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # already gone, which is what was wanted


if __name__ == "__main__":
    _guard(float(sys.argv[1]), sys.argv[2:])
