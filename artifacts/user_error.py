"""Base of errors caused by the user's input or settings."""


class UserError(Exception):
    """A retry does not help; the message has cause and remedy.

    Commands end with exit status 2.
    """
