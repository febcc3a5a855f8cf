"""Wrong paths of the commands that export or serve are refused before a store is opened."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.command_table import app


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("export-model", "there"), "'there' is a file"),
        (("export-recs", "there"), "'there' is a file"),
        (("demo-dump", "there"), "'there' is a file"),
        (("export-recs", "out", "--new-items", "absent"), "'absent' does not exist"),
        (("serve-recs", "--new-items", "absent"), "'absent' does not exist"),
    ],
)
def test_a_wrong_path_is_refused_first(
    command: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").touch()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
