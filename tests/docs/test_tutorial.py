"""The tutorial, executed as it is written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.server.command_variables import own_variables

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_block_of_the_tutorial_runs_in_order(tmp_path: Path, prefect_database: Path) -> None:
    blocks = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text("utf-8"))
    assert [kind for kind, _ in blocks] == ["bash", "bash", "bash", "python", "python"]
    commands = [text for kind, text in blocks if kind == "bash"]
    script = "".join(text for kind, text in blocks if kind == "python")
    (tmp_path / "tutorial.py").write_text(script, "utf-8")
    folder = Path(sys.executable).parent
    environment = {
        **own_variables(tmp_path, prefect_database),
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    for command in (*commands, f"{sys.executable} tutorial.py"):
        done = subprocess.run(
            ["bash", "-euc", command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "report.html").exists()
