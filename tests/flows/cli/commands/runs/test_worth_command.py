"""The command `worth`: its options, and the cost of the profiles of all users as a sentence."""

from typer.testing import CliRunner

from artifacts.kinds.ablation import FEWEST
from flows.cli.command_table import app
from flows.cli.commands.runs.worth_command import cost_of_all_profiles
from flows.cli.dry_run import PlannedCalls


def test_a_sample_that_is_too_small_to_measure_is_refused_before_any_prompt() -> None:
    ended = CliRunner().invoke(app, ["worth", "--ablation-users", str(FEWEST - 1)])
    assert ended.exit_code == 2
    assert f"greater than or equal to {FEWEST}" in ended.output


def test_the_help_has_no_default_of_other_commands() -> None:
    said = " ".join(
        CliRunner().invoke(app, ["worth", "--help"], env={"COLUMNS": "300"}).output.split()
    )
    assert "else auto" not in said
    assert "--time-budget" not in said


def planned(requests: int, usd: float | None) -> PlannedCalls:
    return PlannedCalls("summarize users", requests, 0, requests, 900, 90, usd, True, "counted")


def test_the_price_of_all_steps_is_summed() -> None:
    said = cost_of_all_profiles((planned(200, 1.25), planned(100, 0.5)))
    assert "about 300 more requests, for at most $1.75." in said
    assert "--profile-users 0" in said


def test_one_unknown_price_makes_the_sum_unknown() -> None:
    said = cost_of_all_profiles((planned(200, 1.25), planned(100, None)))
    assert "at an unknown price" in said
    assert "$" not in said


def test_nothing_left_to_ask_is_said() -> None:
    assert cost_of_all_profiles((planned(0, 0.0),)).startswith("All users have profiles")
