"""The workflows run scripts that exist, with few rights, and actions that can't change; hooks download nothing."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)


def load(workflow: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(workflow.read_text())
    return loaded


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in load(workflow)["jobs"].values():
        yield from job["steps"]


def test_there_are_workflows() -> None:
    assert {path.name for path in WORKFLOWS} >= {"ci.yml", "security.yml"}


@each_workflow
def test_every_step_runs_a_script_of_the_project(workflow: Path) -> None:
    for step in steps(workflow):
        if "run" in step:
            script = ROOT / shlex.split(step["run"])[0]
            assert script.is_file(), step["run"]
            assert os.access(script, os.X_OK), step["run"]


@each_workflow
def test_no_command_is_put_together_from_what_an_event_says(workflow: Path) -> None:
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []


@each_workflow
def test_a_workflow_may_read_the_repository_and_nothing_else(workflow: Path) -> None:
    assert load(workflow)["permissions"] == {"contents": "read"}
    assert [name for name, job in load(workflow)["jobs"].items() if "permissions" in job] == []
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@each_workflow
def test_every_action_is_pinned_by_its_commit_and_says_its_version(workflow: Path) -> None:
    uses = re.findall(r"uses: (.*)", workflow.read_text())
    assert len(uses) == len([step for step in steps(workflow) if "uses" in step])
    assert [each for each in uses if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", each)] == []


@each_workflow
def test_every_job_ends_by_itself(workflow: Path) -> None:
    assert [name for name, job in load(workflow)["jobs"].items() if "timeout-minutes" not in job] == []


def test_ci_covers_every_python_that_the_project_names() -> None:
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    covered = load(ROOT / ".github/workflows/ci.yml")["jobs"]["check"]["strategy"]["matrix"]["include"]
    assert [each["python"] for each in covered] == named


def test_the_hooks_of_commits_are_programs_of_this_checkout() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    for hook in repository["hooks"]:
        program, *arguments = shlex.split(hook["entry"])
        assert program.startswith(".venv/bin/")
        assert [each for each in arguments if each.startswith("tests/") and not (ROOT / each).is_file()] == []


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").iterdir()), ids=lambda path: path.name)
def test_every_script_is_sound_bash_and_stops_at_the_first_failure(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    subprocess.run(["bash", "-n", script], check=True, timeout=60)
