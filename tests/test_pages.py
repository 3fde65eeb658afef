"""Pages say what is there: links, programs, options and flags."""

import importlib
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import taylorseer_guider
from taylorseer_guider.settings import GROUPS, OPTIONS, Settings
from taylorseer_guider.standalone.config import instantiate_from_config

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "taylorseer_guider"
ROOMS = ("taylorseer_guider", "configs", "scripts", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for room in ROOMS for page in (ROOT / room).rglob("*.md"))])
COMMANDS = ("sample", "calibrate", "compare", "trajectory")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


def named(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


def prose(page):
    return FENCE.sub("", page.read_text())


def anchors(page):
    """What GitHub makes of the headings of ``page``."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page):
    """The links of ``page`` that lead nowhere."""
    for link in filter(None, sum(LINK.findall(prose(page)), ())):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page):
    assert not list(broken(page))


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text('# One room\n[a](#one-room) [b](page.md#none) [c](gone.md) [d](https://example.org)\n<img src="gone.png">\n')
    assert list(broken(page)) == ["page.md#none", "gone.md", "gone.png"]


def test_the_readme_has_every_option():
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "README.md").read_text().partition("## Options")[2], re.M)
    known = {"scale", "guider_config", *OPTIONS}
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == known
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `plan`"))
    assert [group.split(", ") for group in re.findall(r"\{(.+?)\}", row)] == [
        list(group.__dataclass_fields__) for group in GROUPS.values()
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if "TaylorSeerGuider" in "".join(blocks(page, "yaml"))], ids=named)
def test_every_guider_in_a_page_can_be_built(page, tmp_path, monkeypatch):
    """But for a host's own guider that it wraps: there the options alone are checked."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "yaml"):
        config = yaml.safe_load(block)["guider_config"]
        if "guider_config" in config["params"]:
            Settings(**{name: value for name, value in config["params"].items() if name != "guider_config"})
        else:
            assert isinstance(instantiate_from_config(config), taylorseer_guider.TaylorSeerGuider)


@pytest.mark.slow
def test_the_complete_program_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(PLUGIN / "README.md", "python"):
        exec(block, names)
    assert "7 calls" in capsys.readouterr().out and names["image"].isfinite().all()
    assert taylorseer_guider.Calibration.load("mine.yaml").budgets.keys() == {5, 8}


def test_every_file_of_the_plugin_is_on_its_page():
    table = (PLUGIN / "README.md").read_text().partition("## Which room")[2]
    rooms = [path.name for path in PLUGIN.glob("*.py") if path.name != "__init__.py"]
    rooms += [f"{path.parent.name}/" for path in PLUGIN.glob("*/__init__.py")]
    assert len(rooms) > 20 and [name for name in rooms if f"`{name}`" not in table] == []


def written():
    """(page, command, line) of each line in a page that runs one of our commands."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for command in COMMANDS:
            for line in re.findall(rf"(?:scripts/{command}\.py|taylorseer-{command}) ([^`\n]*)", text):
                yield page, command, line


@pytest.mark.parametrize("command", COMMANDS)
def test_the_flags_that_pages_write_are_those_of_the_command(command, capsys):
    module = importlib.import_module(f"taylorseer_guider.commands.{command}")
    with pytest.raises(SystemExit):
        module.parse(["--help"])
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    lines = [(named(page), line) for page, name, line in written() if name == command]
    flags = [(page, flag) for page, line in lines for flag in re.findall(r"(?<!\S)--[\w-]+", line)]
    assert lines and [(page, flag) for page, flag in flags if flag not in known] == []


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text()
    assert all(f"`taylorseer-{command}`" in text for command in COMMANDS)
    assert {word for word in re.findall(r"bash (scripts/\w+\.sh)", text) if not (ROOT / word).exists()} == set()
