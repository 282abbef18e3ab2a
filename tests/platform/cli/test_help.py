"""Help texts and documents keep up with the commands; wrong usage has its exit code."""

import re

import click

from dftune.platform.cli.main import cli
from dftune.tests.places import ROOT
from dftune.tests.platform.cli.commands import refused, run


def commands(group=cli, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands())


def test_every_command_has_a_help_text_with_an_example():
    for path, command in ALL.items():
        text = run(*path, "--help").output
        assert "Example:" in text, path
        assert f"dftune {' '.join(path)}" in text.split("Example:")[1]
        assert all(p.help for p in command.params if isinstance(p, click.Option)), path


def test_the_lists_of_commands_say_what_each_does_in_a_whole_sentence():
    groups = [()] + [path[:n] for path in ALL for n in range(1, len(path))]
    for path in sorted(set(groups)):
        listed = run(*path, "--help").output.split("Commands:\n")[1].rstrip().splitlines()
        assert all(re.match(r"  [a-z-]+  +[A-Z].*\.$", line) and not line.endswith("...") for line in listed), path


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_command_and_option_stands_in_readme_or_docs():
    # The row of the command in docs/cli.md names its options, so one of another command does not count.
    table = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").splitlines()
    for path, command in ALL.items():
        (row,) = (line for line in table if re.match(rf"\| `dftune {' '.join(path)}[ `]", line))
        options = {[o for o in p.opts if o.startswith("--")][-1] for p in command.params if isinstance(p, click.Option)}
        assert options == set(re.findall(r"`(--[a-z-]+)`", row)), path


def test_readme_and_docs_name_no_command_that_does_not_exist():
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    named = set(re.findall(r"dftune ((?:data|descriptors|study|model|cluster) [a-z-]+)\b", text))
    assert named <= {" ".join(path) for path in ALL}


def test_the_version_is_the_packages():
    import dftune

    assert run("--version").output.strip() == f"dftune {dftune.__version__}"


def test_wrong_usage_has_exit_code_2(tmp_path, al4):
    assert "No such command" in refused("stduy", code=2)
    assert "two_j_max" in refused("descriptors", "compute", al4.path, "--two-j-max", 5, code=2)
