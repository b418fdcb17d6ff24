"""A bundled plugin is named in several places; these tests keep them equal."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = sorted(folder.name for folder in (ROOT / "plugins").iterdir() if (folder / "__init__.py").is_file())
POINTS: dict[str, str] = PROJECT["project"]["entry-points"]["assistant"]
CONTRACTS = {contract["name"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}


def test_there_are_plugins() -> None:
    assert FOLDERS
    assert all(name.startswith("assistant_") for name in FOLDERS)


def test_every_folder_is_in_the_wheel() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["assistant", *(f"plugins/{name}" for name in FOLDERS)]


def test_every_folder_has_one_entry_point_of_its_own_name() -> None:
    assert {f"assistant_{name}" for name in POINTS} == set(FOLDERS)
    for name, value in POINTS.items():
        assert value.partition(":")[0] == f"assistant_{name}"


@pytest.mark.parametrize(("contract", "key"), [
    ("the host does not import its plugins", "forbidden_modules"),
    ("plugins import only the public API", "source_modules"),
    ("plugins do not import each other", "modules"),
])
def test_every_plugin_is_under_the_import_contracts(contract: str, key: str) -> None:
    assert sorted(CONTRACTS[contract][key]) == FOLDERS


def test_the_import_contracts_look_at_every_plugin() -> None:
    assert sorted(PROJECT["tool"]["importlinter"]["root_packages"]) == ["assistant", *FOLDERS]


def test_the_import_contracts_name_modules_that_exist() -> None:
    for contract in CONTRACTS.values():
        for module in [*contract.get("source_modules", ()), *contract.get("forbidden_modules", ())]:
            place = ROOT.joinpath(*module.split("."))
            bundled = ROOT / "plugins" / module
            assert any((place.with_suffix(".py").is_file(), place.is_dir(), bundled.is_dir())), f"{module} is gone"


def test_the_public_api_is_all_that_plugins_may_import() -> None:
    public = {"__init__", "blas", "engines", "errors", "events", "hookspecs", "intents", "testing", "tools"}
    modules = {file.stem for file in (ROOT / "assistant").glob("*.py")} - {"__main__"}
    modules |= {folder.parent.name for folder in (ROOT / "assistant").glob("*/__init__.py")}
    forbidden = set(CONTRACTS["plugins import only the public API"]["forbidden_modules"])
    missing = {f"assistant.{name}" for name in modules - public} - forbidden
    assert not missing, f"add to the contract in pyproject.toml: {sorted(missing)}"


def test_what_is_installed_is_what_is_declared() -> None:
    installed = {
        point.name: point.value for point in entry_points(group="assistant")
        if point.dist is not None and point.dist.name == PROJECT["project"]["name"]
    }
    assert installed == POINTS, "the installed metadata is out of date: run `pip install -e .` again"


@pytest.mark.parametrize("name", FOLDERS)
def test_every_plugin_is_typed(name: str) -> None:
    assert (ROOT / "plugins" / name / "py.typed").is_file()
