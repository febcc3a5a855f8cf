"""Whose process listens on a port."""

import os
import socket

import pytest

from tasks.system.free_port import HOST, free_port
from tasks.system.port_owner import is_foreign


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_listener_of_another_user_is_foreign(
    family: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(family) as server:
        server.bind(("", 0))
        port = server.getsockname()[1]
        server.listen()
        assert not is_foreign(port)
        monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
        assert is_foreign(port)


def test_a_port_without_a_listener_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert not is_foreign(free_port())
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        assert not is_foreign(bound.getsockname()[1])
