"""Deploying a project to a real Prefect server, again and again, while people change things in its UI."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from prefect_mlops.core.errors import BackendError, ConfigError
from prefect_mlops.deployments.rollout import apply
from prefect_mlops.deployments.rollout.apply import carry_out, plan_rollout
from prefect_mlops.deployments.rollout.inventory import missing_pools
from prefect_mlops.deployments.rollout.plan import Plan

ROOT = Path(__file__).parents[3]
FLOW = '''
from prefect import flow

@flow(name="flow-{unique}")
def hello(name: str = "you", automatic: bool = False):
    """Greet somebody."""
'''


@dataclass
class Project:
    """A project of its own on the shared server."""

    folder: Path
    unique: str
    client: SyncPrefectClient

    @property
    def name(self) -> str:
        return f"flow-{self.unique}/hello"

    def entry(self, **changes: Any) -> dict[str, Any]:
        return {
            "name": "hello",
            "entrypoint": f"module_{self.unique}.hello",
            "tags": ["b", "a"],
            "parameters": {"name": "me"},
            "work_pool": {"name": f"pool-{self.unique}", "job_variables": {"working_dir": "."}},
            "triggers": [self.trigger()],
            "schedules": [self.schedule(), {"slug": "often", "interval": 600}],
            **changes,
        }

    def trigger(self, **changes: Any) -> dict[str, Any]:
        return {
            "name": f"wake {self.unique}",
            "description": "Wakes it.",
            "expect": ["z.event", "a.event", "m.event"],
            "match": {"prefect.resource.id": "some.thing"},
            "parameters": {"automatic": True},
            **changes,
        }

    def schedule(self, **changes: Any) -> dict[str, Any]:
        return {"slug": "weekly", "cron": "0 6 * * 1", "timezone": "Europe/Berlin", **changes}

    def write(self, *entries: dict[str, Any], **top: Any) -> None:
        content = {"name": f"project-{self.unique}", "pull": [], "deployments": list(entries or [self.entry()]), **top}
        (self.folder / "prefect.yaml").write_text(yaml.safe_dump(content))

    def plan(self, **options: bool) -> Plan:
        return plan_rollout(self.folder, **options)

    def deploy(self, **options: bool) -> Plan:
        plan = self.plan(**options)
        carry_out(plan, tell=print)
        return plan

    def found(self, name: str = "") -> Any:
        return self.client.read_deployment_by_name(name or self.name)

    def slugs(self) -> dict[str, Any]:
        return {schedule.slug: schedule for schedule in self.found().schedules}

    def automations(self) -> dict[str, Any]:
        related = self.client.read_resource_related_automations(f"prefect.deployment.{self.found().id}")
        assert len({automation.name for automation in related}) == len(related), "none is doubled"
        return {automation.name: automation for automation in related}

    def automation(self) -> Any:
        return self.automations()[f"wake {self.unique}"]


def verbs(plan: Plan) -> dict[str, str]:
    """What happens to the parts of the first deployment, without those that stay as they are."""
    return {part.name: part.verb for part in plan.deployments[0].parts if part.verb != "same"}


@pytest.fixture
def project(prefect_api: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    unique = uuid.uuid4().hex[:8]
    (tmp_path / f"module_{unique}.py").write_text(FLOW.format(unique=unique))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with get_client(sync_client=True) as client:
        made = Project(tmp_path, unique, client)
        made.write()
        yield made


def test_a_fresh_server_gets_everything_and_the_second_time_nothing(project: Project) -> None:
    plan = project.deploy()
    assert plan.pools == (f"pool-{project.unique}",)
    assert [deployment.verb for deployment in plan.deployments] == ["create"]

    found = project.found()
    assert (found.parameters, sorted(found.tags), found.description) == ({"name": "me"}, ["a", "b"], "Greet somebody.")
    assert (found.work_pool_name, found.job_variables) == (f"pool-{project.unique}", {"working_dir": "."})
    assert found.entrypoint == f"module_{project.unique}.hello"
    assert project.slugs()["weekly"].schedule.cron == "0 6 * * 1"
    assert project.slugs()["often"].schedule.interval.total_seconds() == 600
    automation = project.automation()
    assert automation.enabled
    assert automation.trigger.expect == {"z.event", "a.event", "m.event"}
    assert automation.actions[0].deployment_id == found.id
    assert automation.actions[0].parameters == {"automatic": True}
    assert project.client.read_work_pool(f"pool-{project.unique}").type == "process"

    again = project.plan()
    assert not again.acts
    assert verbs(again) == {}


def test_planning_changes_nothing(project: Project) -> None:
    assert project.plan().acts
    assert project.plan().pools, "the pool was not made"
    assert project.plan().deployments[0].verb == "create"


def change_in_the_ui(project: Project) -> None:
    found, schedules = project.found(), project.slugs()
    project.client.update_deployment_schedule(found.id, schedules["often"].id, active=False)
    project.client.update_deployment_schedule(
        found.id, schedules["weekly"].id, schedule=CronSchedule(cron="0 9 * * 2", timezone="Europe/Berlin")
    )
    project.client.pause_automation(project.automation().id)
    project.client.update_deployment(found.id, DeploymentUpdate(parameters={"name": "somebody"}))


def assert_changed_in_the_ui(project: Project) -> None:
    assert project.slugs()["weekly"].schedule.cron == "0 9 * * 2"
    assert not project.slugs()["often"].active
    assert not project.automation().enabled
    assert project.found().parameters == {"name": "somebody"}


def test_what_was_changed_in_the_ui_survives_also_when_something_else_changed_in_the_file(project: Project) -> None:
    project.deploy()
    change_in_the_ui(project)
    plan = project.deploy()
    assert not plan.acts
    assert verbs(plan) == {"parameters": "kept", "weekly": "kept", "often": "kept", f"wake {project.unique}": "kept"}
    assert_changed_in_the_ui(project)

    project.write(project.entry(description="Something else."))
    assert verbs(project.deploy())["description"] == "change"
    assert project.found().description == "Something else."
    assert_changed_in_the_ui(project)
    assert not project.plan().acts


def test_an_entry_that_changed_in_the_file_wins(project: Project) -> None:
    project.deploy()
    change_in_the_ui(project)
    automation = project.automation().id
    project.write(
        project.entry(
            parameters={"name": "nobody"},
            triggers=[project.trigger(description="Wakes it up.")],
            schedules=[project.schedule(cron="0 7 * * 1"), {"slug": "often", "interval": 1200}],
        )
    )
    project.deploy()
    assert project.slugs()["weekly"].schedule.cron == "0 7 * * 1"
    assert project.slugs()["often"].active
    assert (project.automation().id, project.automation().enabled) == (automation, True)
    assert project.automation().description == "Wakes it up."
    assert project.found().parameters == {"name": "nobody"}
    assert not project.plan().acts


def test_reset_lets_the_file_win_everywhere(project: Project) -> None:
    project.deploy()
    change_in_the_ui(project)
    project.deploy(reset=True)
    assert project.slugs()["weekly"].schedule.cron == "0 6 * * 1"
    assert project.slugs()["often"].active
    assert project.automation().enabled
    assert project.found().parameters == {"name": "me"}


def test_what_was_deleted_in_the_ui_stays_deleted_until_its_entry_changes(project: Project) -> None:
    project.deploy()
    project.client.delete_deployment_schedule(project.found().id, project.slugs()["weekly"].id)
    project.client.delete_automation(project.automation().id)
    assert not project.plan().acts
    project.write(project.entry(schedules=[project.schedule(cron="0 7 * * 1")], triggers=[project.trigger()]))
    project.deploy()
    assert project.slugs()["weekly"].schedule.cron == "0 7 * * 1"
    assert project.automations() == {}


def test_what_people_added_in_the_ui_is_left_alone(project: Project) -> None:
    project.deploy()
    found = project.found()
    added = DeploymentScheduleCreate(schedule=CronSchedule(cron="1 1 1 1 *"), active=False, parameters={"name": "x"})
    project.client.create_deployment_schedules(found.id, [added])
    own = AutomationCore(**{**project.automation().model_dump(), "name": f"own {project.unique}"})
    project.client.create_automation(own)
    project.write(project.entry(description="Something else."))
    project.deploy(prune=True)
    kept = project.slugs()[None]
    assert (kept.schedule.cron, kept.active, kept.parameters) == ("1 1 1 1 *", False, {"name": "x"})
    assert set(project.automations()) == {f"own {project.unique}", f"wake {project.unique}"}


def test_what_is_no_longer_in_the_file_is_shown_and_goes_with_prune_only(project: Project) -> None:
    project.write(project.entry(), project.entry(name="other", triggers=[], schedules=[]))
    project.deploy()
    project.write(project.entry(triggers=[], schedules=[project.schedule()]))
    for _ in range(2):
        plan = project.deploy()
        assert verbs(plan) == {"often": "left", f"wake {project.unique}": "left"}
        assert [deployment.verb for deployment in plan.deployments][1:] == ["left"]
    assert set(project.slugs()) == {"weekly", "often"}

    project.deploy(prune=True)
    assert set(project.slugs()) == {"weekly"}
    assert project.automations() == {}
    assert not project.plan(prune=True).acts
    assert [deployment.present.full_name for deployment in project.plan().deployments] == [project.name]


def test_a_renamed_schedule_takes_the_place_of_the_old_one(project: Project) -> None:
    project.deploy()
    renamed = project.schedule(slug="mondays", replaces="weekly")
    project.write(project.entry(schedules=[renamed, {"slug": "often", "interval": 600}]))
    project.deploy()
    assert set(project.slugs()) == {"mondays", "often"}
    assert not project.plan().acts


def test_another_projects_deployments_are_not_touched(project: Project) -> None:
    project.deploy()
    project.write(project.entry(name="second"), name=f"other-project-{project.unique}")
    plan = project.deploy(prune=True)
    assert len(plan.deployments) == 1
    assert project.found()


def test_fields_that_come_and_go(project: Project) -> None:
    limit = {"limit": 2, "collision_strategy": "CANCEL_NEW"}
    project.write(project.entry(paused=True, concurrency_limit=limit, version="7", enforce_parameter_schema=False))
    project.deploy()
    found = project.found()
    assert (found.paused, found.version, found.enforce_parameter_schema) == (True, "7", False)
    assert found.global_concurrency_limit.limit == 2
    assert found.concurrency_options.collision_strategy == "CANCEL_NEW"
    assert not project.plan().acts
    project.write()
    project.deploy()
    found = project.found()
    assert (found.paused, found.global_concurrency_limit, found.enforce_parameter_schema) == (False, None, True)
    assert not project.plan().acts


def prefect_deploy(project: Project) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    api = {"PREFECT_API_URL": str(get_current_settings().api.url), "PATH": "/usr/bin:/bin", "HOME": str(project.folder)}
    done = subprocess.run(command, cwd=project.folder, env=api, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_prefect_deploy_made_is_adopted_by_name(project: Project) -> None:
    project.client.request("POST", "/work_pools/", json={"name": f"pool-{project.unique}", "type": "process"})
    prefect_deploy(project)
    before, automation, version = project.found().id, project.automation().id, project.found().version
    plan = project.plan()
    assert plan.deployments[0].verb == "adopt"
    assert verbs(plan) == {}
    project.deploy()
    assert (project.found().id, project.automation().id, project.found().version) == (before, automation, version)
    assert set(project.slugs()) == {"weekly", "often"}
    assert not project.plan().acts
    change_in_the_ui(project)
    assert not project.plan().acts


def test_prefect_deploy_in_between_confuses_nobody(project: Project) -> None:
    project.deploy()
    project.write(project.entry(parameters={"name": "nobody"}, triggers=[project.trigger(description="New.")]))
    prefect_deploy(project)
    assert verbs(project.deploy()) == {}
    assert not project.plan().acts
    change_in_the_ui(project)
    assert not project.plan().acts


@pytest.mark.slow
def test_our_own_file_goes_through_prefect_deploy_too(
    prefect_api: None, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(project, folder=ROOT)
    if missing_pools(project.client, {"mlops"}):
        project.client.create_work_pool(WorkPoolCreate(name="mlops", type="process"))
    prefect_deploy(own)
    monkeypatch.chdir(ROOT)
    plan = own.plan()
    assert [deployment.verb for deployment in plan.deployments] == ["adopt"] * 9
    assert not [part for deployment in plan.deployments for part in deployment.parts if part.verb != "same"]


@pytest.mark.parametrize("step", ["_write_automations", "_write"])
def test_broken_off_anywhere_the_next_time_completes_it(
    project: Project, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in (project.entry(), project.entry(triggers=[project.trigger(description="New.")], description="New.")):
        project.write(entry)
        whole: Callable[..., Any] = getattr(apply, step)

        def halfway(*given: Any, whole: Callable[..., Any] = whole, **more: Any) -> None:
            whole(*given, **more)
            raise KeyboardInterrupt

        monkeypatch.setattr(apply, step, halfway)
        with pytest.raises(KeyboardInterrupt):
            project.deploy()
        monkeypatch.setattr(apply, step, whole)
        project.deploy()
        assert project.automation().description == entry["triggers"][0]["description"]
        assert project.found().description == entry.get("description", "Greet somebody.")
        assert not project.plan().acts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedules": [{"slug": "daily"}]}, "'hello': schedule 'daily': expected one of cron, interval"),
        ({"schedules": [{"slug": "daily", "cron": "at noon"}]}, "schedule 'daily': cron: .*Invalid cron"),
        ({"schedules": "daily"}, "'hello': schedules: expected a list"),
        ({"triggers": [{"name": "it", "match": 7}]}, "'hello': trigger 'it': "),
        ({"triggers": ["it"]}, "'hello': trigger 'hello__automation_1': "),
        ({"triggers": [{"name": "it"}, {"name": "it"}]}, "two triggers are called 'it'"),
        ({"entrypoint": ""}, "'hello' has no entrypoint"),
        ({"entrypoint": "no_such_module.hello"}, "its flow 'no_such_module.hello' cannot be imported"),
        ({"build": [{"prefect.deployments.steps.run_shell_script": {"script": "true"}}]}, "build or push steps"),
    ],
)
def test_a_wrong_entry_is_named(project: Project, change: dict[str, Any], message: str) -> None:
    project.write(project.entry(**change))
    with pytest.raises(ConfigError, match=message):
        project.plan()


def test_two_entries_of_one_name_are_refused(project: Project) -> None:
    project.write(project.entry(), project.entry())
    with pytest.raises(ConfigError, match=f"lists '{project.name}' twice"):
        project.plan()


def test_what_the_server_refuses_is_passed_on_with_the_deployments_name(project: Project) -> None:
    project.write(project.entry(work_pool={"name": f"prefect-{project.unique}"}))
    with pytest.raises(ConfigError, match=f"work pool 'prefect-{project.unique}': Prefect answered 403: .*reserved"):
        project.deploy()


def test_environment_variables_are_filled_in_but_not_in_what_the_event_fills_in(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREETED", "everybody")
    trigger = project.trigger(parameters={"name": "{{ event.resource.id }}"})
    project.write(project.entry(parameters={"name": "{{ GREETED }}"}, triggers=[trigger]))
    project.deploy()
    assert project.found().parameters == {"name": "everybody"}
    assert project.automation().actions[0].parameters == {"name": "{{ event.resource.id }}"}


def test_without_a_server_it_says_what_to_do(project: Project) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(ConfigError, match="prefect-mlops up"):
        project.plan()
    nobody = {PREFECT_API_URL: "http://127.0.0.1:9/api"}
    with temporary_settings(nobody), pytest.raises(BackendError, match=r"http://127\.0\.0\.1:9/api does not answer"):
        project.plan()


def test_the_note_about_the_file_is_small(project: Project) -> None:
    project.deploy()
    labels = project.found().labels
    assert labels["prefect-mlops.project"] == f"project-{project.unique}"
    assert len(json.dumps(labels)) < 1000, "each flow run carries a copy"
