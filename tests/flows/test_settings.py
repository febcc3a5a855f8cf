"""Variables of the environment: what is read is known, what is not read is told."""

import re
from pathlib import Path

from flows.cli.commands.machine.local_commands import SETTING_PREFIX
from flows.operating import OperatingSettings
from flows.settings import ELSEWHERE, Settings, unknown_variables

ROOT = Path(__file__).parents[2]


def test_a_misspelt_variable_is_told_with_the_one_that_was_meant() -> None:
    told = unknown_variables(["LLM4CDSR_PROVIDR", "LLM4CDSR_STORE", "LLM4CDSR_CACHE", "HOME"])
    assert told == [
        "LLM4CDSR_PROVIDR is no setting and changes nothing; did you mean LLM4CDSR_PROVIDER?"
    ]
    assert "docs/settings.md lists them" in unknown_variables(["LLM4CDSR_0123456789"])[0]


def test_every_variable_that_the_code_reads_is_known() -> None:
    assert {name.upper() for name in OperatingSettings.model_fields} <= set(ELSEWHERE)
    assert not {name.upper() for name in Settings.model_fields} & set(ELSEWHERE)
    written = {
        name
        for room in ("artifacts", "flows", "model", "tasks")
        for file in (ROOT / room).rglob("*.py")
        for name in re.findall(r"LLM4CDSR_[A-Z_]+", file.read_text(encoding="utf-8"))
        if not name.endswith("_")  # The beginning of several.
    }
    assert "LLM4CDSR_API_KEY" in written
    assert unknown_variables(written - set(SETTING_PREFIX.values())) == []
