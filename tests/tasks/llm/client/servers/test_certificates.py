"""A server behind TLS: trusted by a setting of the machine, refused at once in words without it."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks.llm.client.ask import require_server
from tasks.llm.client.failures.refusals import EndpointRefusedError
from tasks.llm.client.stop import EndpointDownError
from tests.imitated_servers import WORDS, Books
from tests.tasks.llm.client.asking_imitations import ask, spec_at

ANSWER = (
    b'{"choices": [{"message": {"content": "' + WORDS.encode() + b'"}, "finish_reason": "stop"}]}'
)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A PEM file with key and certificate of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path / "server.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def behind_tls(certificate: Path) -> Iterator[Books]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as stream:
                    stream.recv(1 << 16)
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(ANSWER)}\r\n"
                    stream.sendall(f"{head}Connection: close\r\n\r\n".encode() + ANSWER)
            except OSError:  # A client without trust hangs up.
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Books(f"https://127.0.0.1:{listener.getsockname()[1]}/v1")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_certificate_of_ones_own_is_trusted_by_a_variable(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with behind_tls(certificate) as books:
        require_server(spec_at(books))
        answers, failures = ask(["one"], spec_at(books))
    assert (len(answers), failures) == (1, [])


def test_a_certificate_that_is_not_trusted_ends_the_run_at_once_with_the_way_out(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with behind_tls(certificate) as books:
        with pytest.raises(EndpointDownError, match=r"self-signed.*set SSL_CERT_FILE"):
            require_server(spec_at(books))
        with pytest.raises(EndpointRefusedError, match="not trust: set SSL_CERT_FILE"):
            ask(["one"], spec_at(books))
