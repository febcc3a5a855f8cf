"""Settings of ingest: input files, filters, split."""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from artifacts import columns as col
from artifacts.strict import Strict
from tasks.dump.events.conditions import Condition, condition
from tasks.dump.merge_mode import Mode
from tasks.dump.naming.dump_formats import DumpFormat
from tasks.dump.sources.source_files import Paths

ITEM_KEY = (col.DOMAIN, col.ITEM_ID)


class Repeats(StrEnum):
    """Handling of repeated items of a user (METHOD 7.17)."""

    KEEP = "keep"
    FIRST = "first"


class Ties(StrEnum):
    """Order of a user's events of equal time (METHOD 7.16)."""

    DUMP = "dump"
    SHUFFLE = "shuffle"


class CatalogueScope(StrEnum):
    """Which items can be recommended."""

    ALL = "all"
    BOUGHT = "bought"


class LeaveOneOut(Strict):
    """Leave-one-out: a user's last event is test, the one before validation (METHOD 6)."""

    kind: Literal["leave-one-out"] = "leave-one-out"


class ByTime(Strict):
    """Split by time: training before one time for all users, without data from the future.

    A time that is not set is chosen by the share of later events.
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
    """Split by user: all events of some users are held out."""

    kind: Literal["users"] = "users"
    validation_share: float = Field(default=0.1, gt=0, lt=1, description="Of all users.")
    test_share: float = Field(default=0.1, gt=0, lt=1, description="Of all users.")

    @model_validator(mode="after")
    def _some_train(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave no user to train on")
        return self


class ColdDomain(Strict):
    """Cold domain: all events in one domain of some cross-domain users are withheld (METHOD 9). The
    last event of the other users is validation."""

    kind: Literal["cold-domain"] = "cold-domain"
    test_share: float = Field(
        default=0.15, gt=0, lt=1, description="Share of cross-domain users: cold test."
    )
    validation_share: float = Field(
        default=0.1, ge=0, lt=1, description="Share of cross-domain users: cold validation."
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
    """The files of one domain, or of several domains with a domain column."""

    interactions: Paths = Field(description="Interactions; see `DumpConfig.interactions`.")
    items: Paths | None = Field(default=None, description="Item files, likewise.")
    domain: str | None = Field(
        default=None, description="Domain of all rows; by default the column 'domain'."
    )
    form: DumpFormat = Field(
        default=DumpFormat.TABLE,
        description="'amazon-2018', 'amazon-2023', 'douban', or a 'table' with standard column "
        "names or those in `columns`.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names in the files that differ from ours, as {'reviewerID': 'user_id'}.",
    )


class DumpConfig(Strict):
    """Input files and filters."""

    interactions: Paths | None = Field(
        default=None,
        description="File with user_id, item_id, domain and timestamp (seconds, milli-, micro- or "
        "nanoseconds since 1970, a date type, or dates as text; UTC without a zone): "
        "Parquet, CSV or JSON, the latter two also .gz or .zst. Also several files, a "
        "folder, a pattern such as events/*.csv, or URLs; see docs/dumps.md.",
    )
    items: Paths | None = Field(
        default=None,
        description="File with item_id, domain, title, and optional brand, categories, price, "
        "description, in the same formats. Items without a row are used without text.",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names in the files that differ from ours, as {'reviewerID': 'user_id'}.",
    )
    sources: tuple[Source, ...] = Field(
        default=(),
        description="In place of interactions, items and columns: files by domain, in a public "
        "format.",
    )
    domains: tuple[str, ...] | None = Field(
        default=None, description="Keep only these domains; all by default."
    )
    since: date | None = Field(default=None, description="First day of events, UTC.")
    until: date | None = Field(default=None, description="Last day of events, UTC.")
    where: tuple[str, ...] = Field(
        default=(),
        description="Conditions on columns of the interactions, all of which an event fulfils: "
        "'rating>=4', 'event=purchase,add_to_cart', 'status!=refunded'.",
    )
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
        "'all', items below the limit can still be recommended by their text.",
    )
    catalogue: CatalogueScope = Field(
        default=CatalogueScope.ALL,
        description="Recommendable items: 'all' described ones, or only those 'bought' in a kept "
        "event.",
    )
    repeats: Repeats = Field(
        default=Repeats.KEEP,
        description="'keep' every event, or only a user's 'first' event of each item.",
    )
    ties: Ties | None = Field(
        default=None,
        description="Order of events of equal time: as in the 'dump', or a seeded 'shuffle' that "
        "depends on user and items only. By default the dump's order for one file of "
        "interactions, shuffled for several, because separate files per domain have no "
        "order between domains.",
    )
    split: Protocol = Field(
        default=LeaveOneOut(), description="Which events are held out for validation and test."
    )
    mode: Mode = Field(
        default=Mode.FULL,
        description="'full': the dump replaces earlier data. 'append': it is merged with the "
        "dataset of the last refresh; common events count once.",
    )
    seed: int = Field(default=0, description="Seed of sampled users, held-out users and tie order.")

    @model_validator(mode="after")
    def _one_way_to_name_files(self) -> Self:
        if (self.interactions is None) == (not self.sources):
            raise ValueError("give either a file of interactions or sources, one of the two")
        if self.sources and (self.items or self.columns):
            raise ValueError("with sources, items and columns belong into each source")
        for text in self.where:
            condition(text)
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"since {self.since} must not be after until {self.until}")
        return self

    @property
    def files(self) -> tuple[Source, ...]:
        """Returns the input files of all options."""
        if self.interactions is None:
            return self.sources
        return (Source(interactions=self.interactions, items=self.items, columns=self.columns),)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Returns the conditions on interactions."""
        return tuple(map(condition, self.where))

    def tie_order(self, files: int) -> Ties:
        """Returns the order of ties for a number of interaction files."""
        return self.ties or (Ties.SHUFFLE if files > 1 else Ties.DUMP)


def in_utc(moment: datetime) -> datetime:
    """Returns a time with its zone, by default UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
