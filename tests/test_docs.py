"""Documentation is held to the program: commands parse, Python runs, files exist, every command is spoken of."""

import os
import re
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import processes
import pytest
import yaml
from exeunt.searcher.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"`((?:\.ci|api|backends|benchmarks|docs|reports|searcher|studies|tests)/[^\s`]*)`")


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, content) of every fenced block in a language."""
    return [(page.name, text) for page in PAGES for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def commands() -> list[str]:
    """Every `exeunt …` line of the pages' shell blocks and scripts, and every one that a container runs."""
    lines = [line.split("#")[0].strip(" &") for _, text in blocks("sh") + blocks("bash") for line in text.splitlines()]
    lines += [shlex.join(each["command"]) for each in containers()]
    return [line for line in lines if line.startswith("exeunt ")]


def containers() -> list[dict[str, Any]]:
    """The containers of all Kubernetes manifests."""
    manifests = [each for _, text in blocks("yaml") for each in yaml.safe_load_all(text)]
    return [each for job in manifests if job["kind"] == "Job" for each in job["spec"]["template"]["spec"]["containers"]]


def parse(command: click.Command, name: str, words: list[str]) -> None:
    """Go through a command line as click does, without running anything."""
    context = command.make_context(name, words, resilient_parsing=False)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        child = command.get_command(context, rest[0])
        assert child is not None, f"{rest[0]} is no command"
        parse(child, rest[0], rest[1:])


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for word in shlex.split(line):  # files that a command reads must be there for click to take them
        if word.endswith((".json", ".toml", ".pt")) and not Path(word).exists():
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()
    parse(cli, "exeunt", shlex.split(line)[1:])


def test_a_cluster_starts_nothing_but_workers() -> None:
    assert [each["command"][:2] for each in containers()] == [["exeunt", "worker"]]
    assert any(line.startswith("exeunt worker") for _, text in blocks("bash") for line in text.splitlines())


SLURM_EXEUNT = """#!/bin/bash
[ -n "$CODE" ] && exit "$CODE"
trap 'sleep 0.2; exit 75' TERM
touch started
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("ended", ["0", "2", "75", "TERM"])
def test_a_slurm_job_goes_back_into_the_queue_on_75_alone(tmp_path: Path, ended: str) -> None:
    """The page's script, with a worker that ends as told, and `scontrol` as a program that notes what it is asked."""
    (tmp_path / "job.sh").write_text(next(text for page, text in blocks("bash") if page == "clusters.md"))
    for name, text in (("exeunt", SLURM_EXEUNT), ("scontrol", '#!/bin/bash\necho "$@" > asked\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    code = "" if ended == "TERM" else ended
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "42", "SLURM_CPUS_PER_TASK": "1"}
    job = processes.start("bash", "job.sh", cwd=tmp_path, env={**os.environ, **variables, "CODE": code})
    if ended == "TERM":
        while not (tmp_path / "started").exists():
            assert job.poll() is None
            time.sleep(0.02)
        job.terminate()
    assert job.wait(timeout=20) == int(code or 75)
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else "") == ("requeue 42\n" if code in ("", "75") else "")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_runs(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python -c` does, in the repository's root; here, since a process of its own imports torch again."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    exec(compile(code, page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_and_shows_an_example(name: str) -> None:
    assert any(f"exeunt {name}" in page.read_text() for page in PAGES), f"no page speaks of `exeunt {name}`"
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    shown = [command]
    if isinstance(command, click.Group):
        shown = list(command.commands.values())
    for each in shown:
        assert "xample" in (each.help or "") + (each.epilog or ""), f"{each.name}: --help has no example"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", BLOCK.sub("", page.read_text())):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page: Path) -> None:
    """Those in the text; listings of the history have former ones. `NAME` stands for what is to be written."""
    named = PATH.findall(BLOCK.sub("", page.read_text()))
    existing = {path: re.sub(r"[^/]*NAME.*", "", path) for path in named}
    assert [path for path, there in existing.items() if not (ROOT / there).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    open_ends = [PAGES[0]]
    while open_ends:
        page = open_ends.pop()
        seen.add(page)
        linked = (page.parent / target for target in re.findall(r"\]\(([^)#]+\.md)", page.read_text()))
        open_ends += [each for each in {path.resolve() for path in linked} & set(PAGES) if each not in seen]
    assert set(PAGES) == seen
