"""Named data sets: raw files, period, least events (`user_core`, `item_core`), prompts, training
settings.

One TOML file per data set for `run --dataset`, in `tasks/dump/datasets` or another folder; at least
two domains. Data sets of experiments are defined in the grid's TOML file
(`tasks/experiments/grid.py`).
"""

import tomllib
from datetime import date
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from artifacts.strict import Strict
from artifacts.user_error import UserError
from tasks.dump.dump_config import CatalogueScope, LeaveOneOut, Protocol, Repeats, Source, Ties
from tasks.dump.naming.dump_formats import DumpFormat

DATASETS = Path(__file__).parent / "datasets"


class PublicDatasetError(UserError, ValueError):
    """A data set is unknown, its file is invalid, or its raw files are missing."""


class DomainFiles(Strict):
    """Raw files of one domain, by published names."""

    name: str = Field(min_length=1, description="Name of the domain.")
    interactions: str = Field(description="File of interactions, compressed or not.")
    items: str | None = Field(default=None, description="File of items.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="Mapping of column names that differ from the format's."
    )


class TrainingSettings(Strict):
    """Training settings of the paper, or your own."""

    preset: str = Field(default="auto", description="A preset of the model, or auto.")
    overrides: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="As `TrainingConfig.overrides`."
    )


class ExpectedCounts(Strict):
    """Published counts with the same settings; None if uncertain."""

    users: int | None = None
    items: int | None = None
    events: int | None = None


class PublicDataset(Strict):
    """One data set; fields without a description are those of `DumpConfig`."""

    title: str
    about: str = Field(description="One line for the list.")
    source: str = Field(description="Source of the raw files, as text.")
    form: DumpFormat
    language: str = Field(default="en", description="Prompt set: en or zh.")
    domains: tuple[DomainFiles, ...] = Field(min_length=2)
    since: date | None = None
    until: date | None = None
    user_core: int = Field(default=1, ge=1)
    item_core: int = Field(default=1, ge=1)
    catalogue: CatalogueScope = CatalogueScope.ALL
    repeats: Repeats = Repeats.KEEP
    ties: Ties | None = None
    split: Protocol = LeaveOneOut()
    training: TrainingSettings = TrainingSettings()
    expected: ExpectedCounts = ExpectedCounts()

    def raw_files(self) -> tuple[str, ...]:
        """Returns the names of all raw files."""
        return tuple(
            name for domain in self.domains for name in (domain.interactions, domain.items) if name
        )

    def dump_settings(self, raw: Path) -> dict[str, object]:
        """Returns the arguments of `DumpConfig`, with the files of a folder.

        Raises:
            PublicDatasetError: lists all missing files.
        """
        found = {name: _found(raw, name) for name in self.raw_files()}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            raise PublicDatasetError(
                f"{raw} lacks {', '.join(missing)} (gzipped or not) of {self.title}; "
                f"get them from {self.source}"
            )
        sources = tuple(
            Source(
                domain=domain.name,
                form=self.form,
                interactions=str(found[domain.interactions]),
                items=None if domain.items is None else str(found[domain.items]),
                columns=domain.columns,
            )
            for domain in self.domains
        )
        shared = ("since", "until", "user_core", "item_core", "catalogue", "repeats", "ties")
        return {
            "sources": sources,
            "split": self.split,
            **{name: getattr(self, name) for name in shared},
        }


def load_public_dataset(name: str) -> PublicDataset:
    """Returns a data set by its name or its TOML file's path; raises `PublicDatasetError`."""
    path = Path(name) if name.endswith(".toml") else DATASETS / f"{name}.toml"
    if not path.is_file():
        raise PublicDatasetError(
            f"no data set {name}; there are {', '.join(dataset_names())}, or give the path of a "
            ".toml file of your own (`llm4cdsr datasets --show cloth-sport` prints one)"
        )
    try:
        return PublicDataset.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PublicDatasetError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors()]
        raise PublicDatasetError(f"{path} describes no data set: {'; '.join(faults)}") from error


def dataset_names() -> tuple[str, ...]:
    """Returns the names of the built-in data sets."""
    return tuple(sorted(path.stem for path in DATASETS.glob("*.toml")))


def dataset_text(name: str) -> str:
    """Returns the text of a built-in data set's file; raises `PublicDatasetError`."""
    load_public_dataset(name)
    return (DATASETS / f"{name}.toml").read_text("utf-8")


def _found(raw: Path, name: str) -> Path | None:
    plain = name.removesuffix(".gz")
    return next(
        (raw / form for form in (name, plain, f"{plain}.gz") if (raw / form).is_file()), None
    )
