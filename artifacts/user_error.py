"""Errors caused by the user's input or settings: their base, and those of several rooms."""


class UserError(Exception):
    """A retry does not help; the message has cause and remedy.

    Commands end with exit status 2.
    """


class InvalidSettingError(UserError):
    """A variable of the environment has an invalid value."""


class MissingPackageError(UserError):
    """An optional package that a command or setting needs is not installed."""
