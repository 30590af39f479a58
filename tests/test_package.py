"""The package as a whole: what it exports, what importing it costs, and what a built wheel holds."""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from prefect import Flow, Task

from prefect_mlops import tasks
from prefect_mlops.core import errors
from prefect_mlops.tasks import loop

ROOT = Path(__file__).parent.parent
ROOMS = ("cli", "core", "data_checks", "deployments", "flows", "reproduction", "tasks", "tracking")
HEAVY = {
    "deltalake",
    "evidently",
    "great_expectations",
    "mlflow",
    "numpy",
    "optuna",
    "pandas",
    "pyarrow",
    "scipy",
    "skops",
    "sklearn",
}


# What is exported.


def public_modules(room: ModuleType) -> list[ModuleType]:
    names = [module.name for module in pkgutil.iter_modules(room.__path__) if not module.name.startswith("_")]
    return [importlib.import_module(f"{room.__name__}.{name}") for name in names]


PACKAGES = (tasks, loop)
TASKS = {name: getattr(package, name) for package in PACKAGES for name in package.__all__}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_task_is_exported_in_order(package: ModuleType) -> None:
    made = {
        name: value
        for module in public_modules(package)
        for name, value in vars(module).items()
        if isinstance(value, Task) and not name.startswith("_") and name in defined_in(module)
    }
    assert package.__all__ == sorted(made)
    assert all(getattr(package, name) is made[name] for name in made)


def test_no_task_is_exported_twice() -> None:
    assert not set(tasks.__all__) & set(loop.__all__)


def test_a_task_is_called_in_prefect_as_in_python() -> None:
    assert {name: task.name for name, task in TASKS.items()} == {name: name.replace("_", "-") for name in TASKS}


def defined_in(module: ModuleType) -> set[str]:
    """Names a module makes itself, in contrast to those it imports."""
    nodes = ast.parse(inspect.getsource(module)).body
    assigned = (target for node in nodes if isinstance(node, ast.Assign) for target in node.targets)
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)} | {ast.unparse(one) for one in assigned}


def functions_of(module: ModuleType) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(inspect.getsource(module))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def raises(name: str, module: ModuleType, seen: set[str]) -> bool:
    """Tell whether a function, or one of its module that it calls, raises an error of ours."""
    functions = functions_of(module)
    if name in seen or name not in functions:
        return False
    seen.add(name)
    for node in ast.walk(functions[name]):
        if isinstance(node, ast.Raise) and not between_functions(node, module):
            return True
        if isinstance(node, ast.Attribute) and node.attr == "raise_for_failure":
            return True
        if isinstance(node, ast.Name) and node.id != name and raises(node.id, module, seen):
            return True
    return False


def between_functions(node: ast.Raise, module: ModuleType) -> bool:
    """Whether it raises a class that is none of our errors, as functions of a module do for each other."""
    name = node.exc.func.id if isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name) else ""
    kind = getattr(module, name, None)
    return isinstance(kind, type) and not issubclass(kind, errors.MLOpsError)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_explains_itself(name: str) -> None:
    task = TASKS[name]
    words = inspect.getdoc(task.fn) or ""
    first = words.split("\n\n")[0]
    assert "\n" not in first
    assert first.endswith(".")
    assert f"tasks.{name}" not in words, "it would send its reader to itself"
    parts = dict(re.findall(r"^(Args|Returns|Raises):\n((?:    .*\n?|\n)+)", words, flags=re.MULTILINE))
    assert ("Returns" in parts) == (inspect.signature(task.fn).return_annotation != "None")
    described = re.findall(r"^    (\w+): ", parts.get("Args", ""), flags=re.MULTILINE)
    assert described == list(inspect.signature(task.fn).parameters)

    module = inspect.getmodule(task.fn)
    assert module
    named = re.findall(r"^    (\w+): ", parts.get("Raises", ""), flags=re.MULTILINE)
    assert all(issubclass(getattr(errors, error), errors.MLOpsError) for error in named)
    if raises(task.fn.__name__, module, set()):
        assert named
    if task.retries:
        assert "BackendError" in named


def test_every_flow_is_one_file_of_its_name() -> None:
    from prefect_mlops import flows

    for module in public_modules(flows):
        name = module.__name__.rpartition(".")[2]
        made = [value.fn.__name__ for value in vars(module).values() if isinstance(value, Flow)]
        own = [flow for flow in made if flow == name or flow.startswith(f"{name}_")]  # and the parts it calls
        assert not made or name in own


# What importing costs.


def loaded_by(*modules: str, first: str = "sys") -> dict[str, list[str]]:
    """Import modules one after the other in a fresh interpreter; say which heavy libraries each brought."""
    program = f"""
import importlib, json, sys
importlib.import_module({first!r})
known, brought = set(sys.modules), {{}}
for name in {modules!r}:
    importlib.import_module(name)
    new = {{module.partition(".")[0] for module in set(sys.modules) - known}}
    brought[name] = sorted(new & {HEAVY | {"prefect"}!r})
print(json.dumps(brought))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_tasks_and_flows_loads_no_heavy_library() -> None:
    flows = [f"prefect_mlops.flows.{path.stem}" for path in sorted((ROOT / "flows").glob("[a-z]*.py"))]
    brought = loaded_by("prefect_mlops.tasks", "prefect_mlops.tasks.loop", *flows, first="prefect")
    assert not {name: HEAVY & set(modules) for name, modules in brought.items() if HEAVY & set(modules)}


def test_importing_the_registry_loads_no_prefect() -> None:
    brought = loaded_by("prefect_mlops.tracking.registry", "prefect_mlops.tracking.decisions")
    assert not {name: modules for name, modules in brought.items() if modules}


def test_importing_the_command_line_and_the_ground_floor_loads_not_even_prefect() -> None:
    brought = loaded_by("prefect_mlops.core", "prefect_mlops.data_checks", "prefect_mlops.cli.app")
    assert not {name: modules for name, modules in brought.items() if modules}


def test_a_command_ends_without_the_collector_visiting_what_was_imported() -> None:
    program = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 0))
from prefect_mlops.cli.app import main
sys.argv = ["prefect-mlops", "--version"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "True"), done.stderr


# What a wheel holds.


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout so that the checkout stays clean, without reaching any index."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in (*ROOMS, "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    program = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return copy / "dist" / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def inside(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("room", [*ROOMS, "examples/flights"])
def test_a_wheel_holds_every_module_of_a_room_and_says_that_it_is_typed(inside: set[str], room: str) -> None:
    modules = {f"prefect_mlops/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / room).rglob("*.py")}
    found = {name for name in inside if name.startswith(f"prefect_mlops/{room}/")}
    assert modules
    assert {name for name in found if name.endswith(".py")} == modules
    if room in ROOMS:
        assert f"prefect_mlops/{room}/py.typed" in found


def test_a_wheel_holds_the_template_of_the_model_card(inside: set[str]) -> None:
    assert "prefect_mlops/core/cards/card.html.j2" in inside


def test_a_wheel_holds_nothing_else(inside: set[str]) -> None:
    tops = {"/".join(name.split("/")[:2]) for name in inside if ".dist-info/" not in name}
    assert tops == {f"prefect_mlops/{room}" for room in (*ROOMS, "examples")}
    assert "prefect_mlops/__init__.py" not in inside, "a namespace has no file of its own"
    assert not [name for name in inside if "/test" in name or name.endswith((".pyc", ".db"))]


def test_a_wheel_names_its_command_license_and_version(wheel: Path, inside: set[str]) -> None:
    archive = zipfile.ZipFile(wheel)
    (entries,) = [name for name in inside if name.endswith("entry_points.txt")]
    commands = configparser.ConfigParser()
    commands.read_string(archive.read(entries).decode())
    assert dict(commands["console_scripts"]) == {"prefect-mlops": "prefect_mlops.cli.app:main"}
    assert any(name.endswith("LICENSE") for name in inside)
    (metadata,) = [name for name in inside if name.endswith("/METADATA")]
    words = archive.read(metadata).decode()
    assert "Requires-Dist: prefect<3.10,>=3.8" in words
    assert re.findall(r"^Provides-Extra: (.*)$", words, flags=re.MULTILINE) == ["demo", "dask", "s3"]


def test_no_folder_of_the_checkout_shadows_the_package() -> None:
    assert not (ROOT / "prefect_mlops").exists()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed into a folder of its own by whichever installer there is."""
    target = tmp_path_factory.mktemp("installed")
    if importlib.util.find_spec("pip"):
        installer = [sys.executable, "-m", "pip", "install", "--quiet"]
    elif shutil.which("uv"):
        installer = ["uv", "pip", "install", "--quiet", "--offline", "--python", sys.executable]
    else:
        pytest.skip("neither pip nor uv is here")
    subprocess.run([*installer, "--no-deps", "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def run_installed(installed: Path, folder: Path, *command: str) -> str:
    """Run Python on the installed wheel: -S leaves out the checkout's editable install, the libraries stay."""
    paths = os.pathsep.join([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-S", *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("where", ["elsewhere", "checkout"])
def test_the_installed_command_runs_from_any_folder(installed: Path, tmp_path: Path, where: str) -> None:
    folder = ROOT if where == "checkout" else tmp_path
    version = importlib.metadata.version("prefect-mlops")
    said = run_installed(installed, folder, str(installed / "bin" / "prefect-mlops"), "--version")
    assert said == f"prefect-mlops {version}\n"
    program = "import prefect_mlops.cli.app as app, prefect_mlops.core as core; print(app.__file__, core.__file__)"
    files = run_installed(installed, folder, "-c", program).split()
    assert all(file.startswith(str(installed)) for file in files)


def test_the_installed_example_is_there(installed: Path, tmp_path: Path) -> None:
    program = "from prefect_mlops.core.specs.model import load_spec; print(load_spec('prefect_mlops.examples.flights.model').name)"
    assert run_installed(installed, tmp_path, "-c", program) == "flights-late\n"


# Where things are.


def product_files() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def test_every_package_is_installed() -> None:
    listed = re.search(r"^packages = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert listed
    folders = {path.parent.relative_to(ROOT) for path in product_files()}
    wanted = {f"prefect_mlops.{folder.as_posix().replace('/', '.')}" for folder in folders}
    assert wanted == set(re.findall(r'"(.+?)"', listed[1])) - {"prefect_mlops.examples.flights"}


def test_a_private_module_is_imported_by_its_own_package_only() -> None:
    reached = []
    for path in product_files():
        package = ".".join(("prefect_mlops", *path.parent.relative_to(ROOT).parts))
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("prefect_mlops."):
                continue
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                parts = name.split(".")
                private = next((i for i, part in enumerate(parts) if part.startswith("_")), None)
                if private is not None and parts[private].islower():
                    home = ".".join(parts[:private])
                    if not f"{package}.".startswith(f"{home}."):
                        reached.append(f"{path.relative_to(ROOT)}: {name}")
    assert not reached


def test_files_that_the_docs_name_are_there() -> None:
    rooms = "|".join((*ROOMS, "examples", "tests", "benchmarks"))
    named = re.compile(rf"`((?:{rooms})/[\w./-]+\.(?:py|md|yaml))`")
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    missing = [
        f"{page.name}: {found}"
        for page in pages
        for found in named.findall(page.read_text())
        if not (ROOT / found).exists()
    ]
    assert not missing
