"""Trusted certificates: the system's, or those of SSL_CERT_FILE or SSL_CERT_DIR."""

import ssl

DISTRUSTED = "set SSL_CERT_FILE to a PEM file with the certificate of the authority that signed it"
"""Remedy for a certificate that is not trusted."""


def trusted() -> ssl.SSLContext:
    """Returns the context of all connections, also of clients that ignore the environment."""
    from httpx2 import create_ssl_context  # Slow to import.

    return create_ssl_context()


def is_distrust(error: Exception) -> bool:
    """Returns whether a connection failed because the server's certificate is not trusted."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
