"""Ports for servers that start slowly."""

import socket
from pathlib import Path

import pytest

from tasks.system import free_port as module
from tasks.system.free_port import EPHEMERAL, HOST, free_port


@pytest.mark.skipif(not EPHEMERAL.exists(), reason="the kernel does not say")
def test_no_connection_is_given_the_port_by_the_kernel() -> None:
    first = int(EPHEMERAL.read_text().split()[0])
    assert all(free_port() < first for _ in range(20))


def test_a_port_that_is_taken_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind((HOST, free_port()))
        taken = holder.getsockname()[1]
        monkeypatch.setattr(module, "LOWEST", taken - 1)
        monkeypatch.setattr(module, "HIGHEST", taken)
        found = {free_port() for _ in range(20)}
    assert taken not in found


def test_where_every_port_is_ephemeral_the_kernel_chooses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ports = tmp_path / "range"
    ports.write_text("1024\t65535\n")
    monkeypatch.setattr(module, "EPHEMERAL", ports)
    assert free_port() >= 1024
