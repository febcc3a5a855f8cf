"""The base of errors that the user's input or settings cause."""


class UserError(Exception):
    """Trying again does not help: the message says what is wrong, and the way out.

    A command that ends with one has exit status 2.
    """
