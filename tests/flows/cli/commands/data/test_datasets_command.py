"""The list of data sets, and options of `run` that contradict each other."""

import re

import pytest
from typer.testing import CliRunner

from flows.cli.command_table import app
from tasks.dump.public_datasets import dataset_names, dataset_text


def test_the_list_names_every_data_set_with_its_files_and_their_source() -> None:
    shown = CliRunner().invoke(app, ["datasets"]).stdout
    assert all(name in shown for name in dataset_names())
    assert "meta_Clothing_Shoes_and_Jewelry.json.gz" in shown
    assert "nijianmo.github.io/amazon" in shown
    assert "users unknown" in shown


def test_a_data_sets_file_is_printed_as_it_is() -> None:
    shown = CliRunner().invoke(app, ["datasets", "--show", "cloth-sport"])
    assert shown.stdout == dataset_text("cloth-sport")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--raw", "."], "--raw belongs to --dataset"),
        (["--dataset", "cloth-sport"], "needs --raw FOLDER"),
        (["--dataset", "cloth-sport", "--raw", ".", "--interactions", "e.csv"], "not both"),
        (
            ["--interactions", "e.csv", "--split", "users", "--test-from", "2020-01-01"],
            "--split time",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: list[str], words: str) -> None:
    refused = CliRunner().invoke(app, ["run", *options], env={"COLUMNS": "200"})
    assert refused.exit_code == 2
    assert words in re.sub(r"\x1b\[[0-9;]*m", "", refused.output)
