"""A grid says what is run: every combination once, and nothing that could fail at night."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.experiments.grid import (
    BaselineRecipe,
    Cell,
    Grid,
    GridError,
    NeuralRecipe,
    ProfileSource,
    Saw,
    cells_of,
    read_grid,
)

GRID = """
title = "test"
seeds = [3, 4]
presets = ["paper", "best"]
baselines = ["popularity", "history-repeat"]
ablate = ["paper"]

[[datasets]]
name = "one"
interactions = "../data/e.parquet"
items = "../data/i.parquet"

[settings]
train = { max_epochs = 7 }

[ablations."no profiles"]
train = { beta = 0.0 }

[ablations."titles"]
of = ["paper", "best"]
profiles = "titles"

[overlap]
shares = [0, 100]
presets = ["best"]
"""


def grid(tmp_path: Path, text: str = GRID) -> Grid:
    path = tmp_path / "grid.toml"
    path.write_text(text, "utf-8")
    return read_grid(path)


def recipe(cell: Cell) -> NeuralRecipe:
    assert isinstance(cell.recipe, NeuralRecipe)
    return cell.recipe


def test_every_combination_is_a_cell_once(tmp_path: Path) -> None:
    labels = [cell.label for cell in cells_of(grid(tmp_path))]
    assert len(set(labels)) == len(labels)
    assert labels[:3] == [
        "one / popularity / training",
        "one / popularity / training + validation",
        "one / history-repeat / training",  # It learns nothing, so once is enough.
    ]
    assert labels[3:8] == [
        "one / paper / seed 3",
        "one / best / seed 3",
        "one / paper / no profiles / seed 3",
        "one / paper / titles / seed 3",
        "one / best / titles / seed 3",
    ]
    assert labels[-2:] == ["one / best / overlap 0% / seed 4", "one / best / overlap 100% / seed 4"]
    assert len(labels) == 3 + 2 * 5 + 2 * 2


def test_settings_bound_every_preset_and_an_ablation_changes_its_own_fields(
    tmp_path: Path,
) -> None:
    cells = {cell.label: cell for cell in cells_of(grid(tmp_path)) if cell.recipe.kind == "neural"}
    assert {recipe(cell).config.train.max_epochs for cell in cells.values()} == {7}
    paper, ablated = (
        recipe(cells[f"one / paper / {name}seed 3"]) for name in ("", "no profiles / ")
    )
    assert paper.config.train.beta > 0
    assert paper.profiles is ProfileSource.LLM
    assert ablated.config.train.beta == 0
    assert ablated.profiles is ProfileSource.NONE
    assert paper.config.model == ablated.config.model
    assert recipe(cells["one / best / titles / seed 4"]).profiles is ProfileSource.TITLES
    assert {recipe(cell).config.train.seed for cell in cells.values()} == {3, 4}


def test_overlap_cells_read_no_profile(tmp_path: Path) -> None:
    cut = [cell for cell in cells_of(grid(tmp_path)) if cell.overlap is not None]
    assert {recipe(cell).profiles for cell in cut} == {ProfileSource.NONE}
    assert {recipe(cell).config.train.beta for cell in cut} == {0.0}


def test_a_cell_says_what_it_was_fitted_on(tmp_path: Path) -> None:
    saw = {cell.label: cell.saw for cell in cells_of(grid(tmp_path))}
    assert saw["one / best / seed 3"] is Saw.TRAIN_AND_VALIDATION  # It is refitted.
    assert saw["one / paper / seed 3"] is Saw.TRAIN
    assert saw["one / popularity / training"] is Saw.TRAIN
    assert BaselineRecipe(name="popularity", saw=Saw.TRAIN).saw is Saw.TRAIN


def test_paths_are_relative_to_the_grid(tmp_path: Path) -> None:
    dump = grid(tmp_path).datasets[0].dump(tmp_path / "grids")
    assert dump.interactions == str((tmp_path / "data" / "e.parquet").resolve())


@pytest.mark.parametrize(
    ("changed", "to", "message"),
    [
        ('"best"]\nbaselines', '"bets"]\nbaselines', "no preset 'bets'; there are best, large"),
        ('"history-repeat"]', '"histroy"]', "no baseline .'histroy'.; there are popularity"),
        ("beta = 0.0", "betta = 0.0", "betta"),
        ("max_epochs = 7", "max_seconds = 60", "must not depend on the speed"),
        ("max_epochs = 7", "max_epochs = 0", "greater than or equal to 1"),
        ('profiles = "titles"', 'profiles = "tweets"', "'llm', 'titles' or 'none'"),
        ("seeds = [3, 4]", "seed = 3", "seed"),
        ("seeds = [3, 4]", "seeds = [3, 3]", "each seed once"),
        ("[settings]\n", "[settings]\nmodel = { hidden = 64 }\n", "must stay 128"),
    ],
)
def test_what_cannot_run_is_refused_when_read(
    tmp_path: Path, changed: str, to: str, message: str
) -> None:
    assert changed in GRID
    with pytest.raises(ValidationError, match=message):
        grid(tmp_path, GRID.replace(changed, to))


def test_two_datasets_of_one_name_are_refused(tmp_path: Path) -> None:
    entry = GRID[GRID.index("[[datasets]]") : GRID.index("[settings]")]
    with pytest.raises(ValidationError, match="a name of its own"):
        grid(tmp_path, GRID.replace(entry, entry * 2))


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"grid\.toml is no TOML: .*line 2"):
        grid(tmp_path, "title = 1\nseeds =\n")


EXPERIMENTS = Path(__file__).parents[3] / "benchmarks" / "experiments"


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_grids_of_the_repository_can_run(path: Path) -> None:
    assert list(cells_of(read_grid(path)))


COLD = """
title = "cold"
baselines = ["popularity", "Markov chain", "EMCDR", "text bridge"]

[[datasets]]
name = "ordinary"
interactions = "e.parquet"
items = "i.parquet"

[[datasets]]
name = "withheld"
interactions = "e.parquet"
items = "i.parquet"
split = { kind = "cold-domain", test_share = 0.3 }
"""


def test_a_baseline_is_made_for_the_splits_that_it_is_for(tmp_path: Path) -> None:
    read = grid(tmp_path, COLD)
    made = {(cell.dataset, cell.model) for cell in cells_of(read)}
    assert made == {
        ("ordinary", "popularity"),
        ("ordinary", "Markov chain"),
        ("withheld", "popularity"),
        ("withheld", "EMCDR"),
        ("withheld", "text bridge"),
    }
    assert read.datasets[1].dump(tmp_path).split.kind == "cold-domain"


def test_a_baseline_for_no_split_of_the_grid_is_refused(tmp_path: Path) -> None:
    without = COLD.replace('split = { kind = "cold-domain", test_share = 0.3 }', "")
    with pytest.raises(ValidationError, match=r"no baseline \['EMCDR', 'text bridge'\]"):
        grid(tmp_path, without)


def test_an_overlap_study_of_withheld_domains_is_refused(tmp_path: Path) -> None:
    study = '\n[overlap]\nshares = [0]\npresets = ["best"]\n'
    with pytest.raises(ValidationError, match="which withheld withholds"):
        grid(tmp_path, COLD + study)


def test_settings_of_one_preset_leave_the_others_alone(tmp_path: Path) -> None:
    text = GRID.replace(
        "[settings]", "[preset_settings.best]\ntrain = { patience = 2 }\n\n[settings]"
    )
    patience = {
        (cell.model, cell.ablation): recipe(cell).config.train.patience
        for cell in cells_of(grid(tmp_path, text))
        if isinstance(cell.recipe, NeuralRecipe)
    }
    assert {model for (model, _), epochs in patience.items() if epochs == 2} == {"best"}
    assert {model for (model, _), epochs in patience.items() if epochs != 2} == {"paper"}


def test_settings_of_a_preset_without_cells_are_refused(tmp_path: Path) -> None:
    text = GRID.replace("[settings]", "[preset_settings.large]\n\n[settings]")
    with pytest.raises(ValidationError, match="large"):
        grid(tmp_path, text)
