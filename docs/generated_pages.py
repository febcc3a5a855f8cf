"""Generates the reference pages of the documentation site from the code (a hook of MkDocs).

Commands come from the command line itself, fields from pydantic descriptions, the changelog from
the repository's, so that no page can differ from what it describes.
"""

import re
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.main import get_command

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")
"""A link to a file of the repository that the site does not hold."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/model.md": model_page(),
        "reference/flows.md": flows_page(),
        "changelog.md": changelog_page(),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Shows links that leave the folder of the pages as names of files."""
    return OUTSIDE.sub(r"`\1`", markdown)


def changelog_page() -> str:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def commands_page() -> str:
    """Returns every command with its options, as the command line declares them."""
    from flows.cli.command_table import COMMANDS, app
    from flows.cli.lazy_group import imported

    group = get_command(app)
    lines = ["# Commands", "", group.help or "", ""]
    for name, listed in COMMANDS.items():
        command = imported(listed)
        lines += [f"## llm4cdsr {name}", "", listed.help, ""]
        subcommands = getattr(command, "commands", {})
        if not subcommands:
            lines += _options(command)
        for word, subcommand in subcommands.items():
            lines += [f"### llm4cdsr {name} {word}", "", _first_line(subcommand.help), ""]
            lines += _options(subcommand)
        if command.epilog:
            examples = [line for line in command.epilog.splitlines() if line.startswith("llm4cdsr")]
            lines += ["```", *examples, "```", ""]
    return "\n".join(lines)


def model_page() -> str:
    """Returns the fields of `model/config.py` and what each preset sets."""
    from model.config import ModelConfig, TrainConfig, load_preset, preset_names

    lines = [
        "# Model and training",
        "",
        "`--set FIELD=VALUE` replaces a field of a preset in `run`, `retrain`, `train` and "
        "`worth`, as in `--set train.accumulate=4`.",
        "",
    ]
    names = preset_names()
    presets = {name: load_preset(name) for name in names}
    for section, model in (("model", ModelConfig), ("train", TrainConfig)):
        lines += [f"## {section}", "", f"| field | {' | '.join(names)} | what it does |"]
        lines += ["|---" * (len(names) + 2) + "|"]
        for field, info in model.model_fields.items():
            values = [getattr(getattr(presets[name], section), field) for name in names]
            cells = " | ".join(f"`{value}`" for value in values)
            lines.append(f"| `{section}.{field}` | {cells} | {_cell(info.description)} |")
        lines.append("")
    return "\n".join(lines)


def flows_page() -> str:
    """Returns the parameters that the Prefect UI shows as forms."""
    from flows.refresh import RefreshConfig
    from flows.retrain import RetrainConfig
    from tasks.dump.dump_config import DumpConfig
    from tasks.llm.settings.llm_config import LlmConfig

    lines = [
        "# Run parameters",
        "",
        "Parameters of the flows, as the Prefect UI asks for them.",
        "",
    ]
    for title, model in (
        ("dump", DumpConfig),
        ("refreshing", RefreshConfig),
        ("retraining", RetrainConfig),
        ("llm", LlmConfig),
    ):
        lines += [f"## {title}", "", "| field | default | what it does |", "|---|---|---|"]
        lines += _fields(model, title)
        lines.append("")
    return "\n".join(lines)


def _fields(model: type[BaseModel], path: str) -> list[str]:
    rows = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            rows += _fields(kind, f"{path}.{name}")
            continue
        default = info.get_default(call_default_factory=True, validated_data={})
        shown = "required" if default is PydanticUndefined else f"`{default}`"
        rows.append(f"| `{path}.{name}` | {_cell(shown)} | {_cell(info.description)} |")
    return rows


def _options(command: click.Command) -> list[str]:
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        default = parameter.default
        is_shown = default not in (None, False, ()) and not callable(default)
        shown = f"`{getattr(default, 'value', default)}`" if is_shown else ""
        rows.append(f"| {names} | {shown} | {_cell(getattr(parameter, 'help', None))} |")
    return ["| option | default | what it does |", "|---|---|---|", *rows, ""] if rows else []


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n\n", 1)[0].replace("\n", " ")


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")
