"""Users of a release by id and by shown name, and their search."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from artifacts.shown_users import PREFIX, ShownUsers

_BYTES = 8
"""Length of the digest of a hashed name."""


class UnknownUserError(LookupError):
    """The user is not in the release's dataset."""


class UserNames:
    """Indices and names of users; ``shown`` defines the names."""

    def __init__(self, user_ids: Sequence[str], shown: ShownUsers) -> None:
        self.shown = shown
        self._ids = user_ids
        self._index_of = {user: index for index, user in enumerate(user_ids)}

    def index(self, name: str) -> int:
        """Returns the index of a user by id or hashed name; raises `UnknownUserError`, and
        TypeError for an id that is not text."""
        if not isinstance(name, str):
            raise TypeError(f"user ids are text; got a {type(name).__name__}: convert it by str()")
        if (index := self._index_of.get(name)) is not None:
            return index
        if len(name) == len(PREFIX) + 2 * _BYTES and (found := list(self._starting(name))):
            return found[0]
        safe = name if name.startswith(PREFIX) else self.shown.name(name)
        raise UnknownUserError(
            f"no user {safe!r} in the dataset of this release; give a history of items"
        )

    def name(self, index: int) -> str:
        """Returns the shown name of a user."""
        return self.shown.name(self._ids[index])

    def search(self, text: str, among: Sequence[str], limit: int) -> list[str]:
        """Returns the shown names of users whose id contains the text.

        With hashed names: of the user with this id, else of those whose name starts with the text.
        A part of an id finds no user, because answers to parts would reveal ids.
        """
        if not self.shown.are_hashed:
            return list(islice((user for user in among if text in user), limit))
        if text in self._index_of:
            found = iter([self._ids[self._index_of[text]]])
        elif not text:
            found = iter(among)
        else:
            found = (self._ids[index] for index in self._starting(text))
        if among is not self._ids:
            allowed = frozenset(among)
            found = (user for user in found if user in allowed)
        return [self.shown.name(user) for user in islice(found, limit)]

    def _starting(self, text: str) -> Iterator[int]:
        """Yields the users whose hashed name starts with a text, with or without the prefix."""
        digits = text.removeprefix(PREFIX)
        if not self.shown.are_hashed or not set(digits) <= set("0123456789abcdef"):
            return
        if len(digits) > 2 * _BYTES:
            return
        digests, users = self._sorted
        first = int(digits.ljust(2 * _BYTES, "0"), 16)
        last = int(digits.ljust(2 * _BYTES, "f"), 16)
        start = int(np.searchsorted(digests, np.uint64(first), "left"))
        end = int(np.searchsorted(digests, np.uint64(last), "right"))
        yield from users[start:end].tolist()

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Returns the digests of all users in ascending order, (users,), and their users."""
        joined = b"".join(map(self.shown.digest, self._ids))
        digests = np.frombuffer(joined, ">u8").astype(np.uint64)
        users = np.argsort(digests, kind="stable")
        return digests[users], users
