"""Which dump to read and what of it to keep: the settings of ingest."""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from artifacts import columns as col
from artifacts.strict import Strict
from tasks.dump.merge_mode import Mode
from tasks.dump.naming.forms import Form
from tasks.dump.sources.source_files import Paths

ITEM_KEY = (col.DOMAIN, col.ITEM_ID)


class Repeats(StrEnum):
    """What counts when a user chose an item more than once (METHOD 7.17)."""

    KEEP = "keep"
    FIRST = "first"


class Ties(StrEnum):
    """In which order a user's events of one moment stand (METHOD 7.16)."""

    DUMP = "dump"
    SHUFFLE = "shuffle"


class CatalogueScope(StrEnum):
    """Which items can be recommended."""

    ALL = "all"
    BOUGHT = "bought"


class LeaveOneOut(Strict):
    """A user's last event tests, the one before validates (METHOD 6)."""

    kind: Literal["leave-one-out"] = "leave-one-out"


class ByTime(Strict):
    """Everyone trains on what was before one moment: nothing is learnt from the future.

    Where a moment is not given, it is the one that leaves the share of events after it.
    """

    kind: Literal["time"] = "time"
    validation_from: datetime | None = Field(
        default=None, description="First moment of the validation events; UTC without a zone."
    )
    test_from: datetime | None = Field(
        default=None, description="First moment of the test events; UTC without a zone."
    )
    validation_share: float = Field(
        default=0.1, gt=0, lt=1, description="Where no moment is given."
    )
    test_share: float = Field(default=0.1, gt=0, lt=1, description="Where no moment is given.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing to train on")
        if self.validation_from is None or self.test_from is None:
            return self
        if in_utc(self.validation_from) >= in_utc(self.test_from):
            raise ValueError(
                f"validation_from {self.validation_from} must be before test_from {self.test_from}"
            )
        return self


class ByUser(Strict):
    """Some users are held out whole: how well strangers are served."""

    kind: Literal["users"] = "users"
    validation_share: float = Field(default=0.1, gt=0, lt=1, description="Of all users.")
    test_share: float = Field(default=0.1, gt=0, lt=1, description="Of all users.")

    @model_validator(mode="after")
    def _some_train(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave no user to train on")
        return self


class ColdDomain(Strict):
    """From some users of several domains one whole domain is withheld: how well people are served
    in a domain where they have no history (METHOD 9). Of the other users the last event validates.
    """

    kind: Literal["cold-domain"] = "cold-domain"
    test_share: float = Field(
        default=0.15, gt=0, lt=1, description="Of the users of several domains: cold test."
    )
    validation_share: float = Field(
        default=0.1, ge=0, lt=1, description="Of the users of several domains: cold validation."
    )

    @model_validator(mode="after")
    def _some_train(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError(
                "validation_share and test_share leave no user to train on in several domains"
            )
        return self


Protocol = Annotated[LeaveOneOut | ByTime | ByUser | ColdDomain, Field(discriminator="kind")]


class Source(Strict):
    """The files of one domain, or of several where the files have a column that names it."""

    interactions: Paths = Field(description="Interactions; see `DumpConfig.interactions`.")
    items: Paths | None = Field(default=None, description="What describes the items, alike.")
    domain: str | None = Field(
        default=None, description="The domain of all rows; from the column 'domain' where None."
    )
    form: Form = Field(
        default=Form.TABLE,
        description="'amazon-2018', 'amazon-2023', 'douban', or a 'table' with columns of our "
        "names or of those in `columns`.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names in the files that differ from ours, as {'reviewerID': 'user_id'}.",
    )


class DumpConfig(Strict):
    """Which dump to read, and what of it to keep."""

    interactions: Paths | None = Field(
        default=None,
        description="File with user_id, item_id, domain and timestamp (seconds, or milli- or "
        "microseconds, since 1970, a date type, or dates as text; UTC where no zone is named): "
        "Parquet, CSV or JSON, the latter two also .gz or .zst. Also several files, a folder of "
        "them, a pattern such as events/*.csv, or URLs; docs/dumps.md says what is read.",
    )
    items: Paths | None = Field(
        default=None,
        description="The same with item_id, domain, title and what else is known: brand, "
        "categories, price, description. Items without a row take part without text.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names in the files that differ from ours, as {'reviewerID': 'user_id'}.",
    )
    sources: tuple[Source, ...] = Field(
        default=(), description="In place of the three above: files by domain, in a public form."
    )
    domains: tuple[str, ...] | None = Field(
        default=None, description="Keep only these domains; all by default."
    )
    since: date | None = Field(default=None, description="First day of events that are kept, UTC.")
    until: date | None = Field(default=None, description="Last day of events that are kept, UTC.")
    max_users: int | None = Field(
        default=None, ge=1, description="Keep a seeded sample of this many users; all by default."
    )
    user_core: int = Field(
        default=1, ge=1, description="Keep users with at least this many events (>=)."
    )
    item_core: int = Field(
        default=1,
        ge=1,
        description="Keep events of items with at least this many events (>=). With the catalogue "
        "'all' such items stay in it: they can be recommended by their text.",
    )
    catalogue: CatalogueScope = Field(
        default=CatalogueScope.ALL,
        description="'all' described items can be recommended, or only those 'bought' in an event "
        "that is kept.",
    )
    repeats: Repeats = Field(
        default=Repeats.KEEP,
        description="'keep' every event, or only a user's 'first' event of each item.",
    )
    ties: Ties | None = Field(
        default=None,
        description="Events of one moment: in the order of the 'dump', or in a seeded 'shuffle' "
        "that depends on user and items alone. By default the dump's order for one file of "
        "interactions, and shuffled for several: a file a domain says nothing about the order "
        "between domains.",
    )
    split: Protocol = Field(
        default=LeaveOneOut(), description="Which events are held out for validation and test."
    )
    mode: Mode = Field(
        default=Mode.FULL,
        description="'full': the dump is everything. 'append': it is added to the dataset of the "
        "last refresh, an event that both hold counting once.",
    )
    seed: int = Field(default=0, description="Chooses sampled and held-out users, orders ties.")

    @model_validator(mode="after")
    def _one_way_to_name_files(self) -> Self:
        if (self.interactions is None) == (not self.sources):
            raise ValueError("give either a file of interactions or sources, one of the two")
        if self.sources and (self.items or self.columns):
            raise ValueError("with sources, items and columns belong into each source")
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"since {self.since} must not be after until {self.until}")
        return self

    @property
    def files(self) -> tuple[Source, ...]:
        """The files to read, whichever way they were named."""
        if self.interactions is None:
            return self.sources
        return (Source(interactions=self.interactions, items=self.items, columns=self.columns),)

    def tie_order(self, files: int) -> Ties:
        """Returns how ties are ordered in a dump of so many files of interactions."""
        return self.ties or (Ties.SHUFFLE if files > 1 else Ties.DUMP)


def in_utc(moment: datetime) -> datetime:
    """Returns a moment with its zone, UTC where it names none."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
