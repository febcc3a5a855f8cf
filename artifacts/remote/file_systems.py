"""File systems of folders and fsspec URLs."""

import fsspec

from artifacts.remote.url_credentials import with_credentials
from artifacts.user_error import UserError


class MissingFileSystemError(UserError):
    """The protocol of a URL is unknown, or its package is not installed."""


class CredentialsOfBucketError(UserError):
    """An S3 URL has credentials, which would be read as a part of the bucket's name."""


def file_system_of(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Returns the file system of a URL, and the path in it.

    Raises:
        MissingFileSystemError: its package is not installed, or its protocol is unknown.
        CredentialsOfBucketError.
    """
    given = with_credentials(url)
    if given != url and given.startswith(("s3://", "s3a://")):
        raise CredentialsOfBucketError(
            f"{url} was given with credentials, which S3 URLs cannot have; remove them, and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        return fsspec.core.url_to_fs(given)
    except ImportError as error:
        protocol = url.partition("://")[0]
        raise MissingFileSystemError(
            f"{protocol}:// needs a package that is not installed ({error}); install it with "
            ".venv/bin/pip install, or use a local folder"
        ) from None
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise
        raise MissingFileSystemError(
            f"{url.partition('://')[0]}:// is not a protocol of fsspec; use s3://, gs:// or "
            "another one that it supports, or a local folder"
        ) from None
