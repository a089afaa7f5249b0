# SPDX-License-Identifier: Apache-2.0
"""Rules that all files of the repository keep."""

from __future__ import annotations

import ast
import configparser
import graphlib
import os
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import proton
import pytest

from hybrid_messaging.engines import kinds

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "plugin" / "hybrid_messaging"
LICENCE = "SPDX-License-Identifier: Apache-2.0"

#: What those need that send messages over a deployment's transports.
MAY_SEND = {
    "attempts",
    "json_files",
    "modes",
    "state",
    "state_directory",
    "urls",
    "drivers",
    "engines",
    "servers",
    "workers",
}
#: Parts whose modules import each other one way, for type checks as well.
ONE_WAY = {
    "cluster",
    "drivers",
    "engines",
    "protocol",
    "router",
    "servers",
    "service_configs",
}
#: Packages whose docstrings list their modules.
LISTING = {
    ".",
    "cluster",
    "drivers",
    "drivers/amqp",
    "drivers/migrate",
    "drivers/zmq",
    "engines",
    "protocol",
    "router",
    "servers",
}
#: What each part of the package may import of the others. The drivers and the
#: router are imported by services and run beside them: they bring nothing along.
MAY_IMPORT = {
    "resources": set(),
    "attempts": set(),
    "locks": {"attempts"},
    "whole_file": set(),
    "urls": set(),
    "modes": {"resources"},
    "json_files": set(),
    "path_walk": set(),
    "state": {"json_files", "modes", "urls"},
    "state_directory": {"json_files", "locks", "path_walk", "state", "whole_file"},
    "log_safety": set(),
    "tls": set(),
    "protocol": {"tls"},
    "drivers": {"log_safety", "protocol", "tls", "whole_file"},
    "router": {"log_safety", "protocol", "tls"},
    "engines": {
        "attempts",
        "drivers",
        "modes",
        "resources",
        "state",
        "state_directory",
        "urls",
        "log_safety",
        "protocol",
        "tls",
        "whole_file",
    },
    "servers": {
        "state",
        "urls",
        "log_safety",
        "tls",
        "protocol",
        "drivers",
        "engines",
    },
    "service_configs": {
        "locks",
        "modes",
        "path_walk",
        "state",
        "state_directory",
        "urls",
        "drivers",
        "servers",
    },
    "cluster": {"json_files", "locks", "urls", "tls", "engines", "whole_file"},
    "serving": {"urls", "engines", "servers", "service_configs"},
    "workers": {"urls"},
    "smoke": MAY_SEND | {"log_safety"},
    "bench": MAY_SEND | {"resources", "whole_file"},
    "cli": {
        "attempts",
        "modes",
        "state",
        "state_directory",
        "urls",
        "drivers",
        "engines",
        "router",
        "servers",
        "service_configs",
        "serving",
        "smoke",
        "bench",
        "whole_file",
        "cluster",
    },
}


def work_tree(*patterns: str) -> list[Path]:
    """The files of the work tree, committed or not, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [path for name in listed if (path := ROOT / name).is_file()]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_python_files_say_their_licence_and_what_they_are_for() -> None:
    silent = []
    for path in work_tree("*.py"):
        text = path.read_text()
        opening = re.match(rf"(#!.*\n)?# {LICENCE}\n", text)
        purpose = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        # an empty file marks a package of tests and has no other purpose
        needed = text or PACKAGE in path.parents
        if needed and not (opening and purpose.strip()):
            silent.append(relative(path))
    assert not silent


def test_scripts_say_their_licence_and_can_be_run() -> None:
    scripts = [path for path in work_tree() if path.read_bytes()[:11] == b"#!/bin/bash"]
    assert scripts
    for path in scripts:
        assert path.read_text().splitlines()[1] == f"# {LICENCE}", path
        assert os.access(path, os.X_OK), path


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: imports are absolute here"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_parts_import_only_what_lies_below_them() -> None:
    wrong = []
    for path in work_tree("plugin/**/*.py"):
        part = part_of(path)
        if part == "__init__":
            continue
        for module in imported(path):
            top, _, rest = module.partition(".")
            other = rest.partition(".")[0]
            if top == "hybrid_messaging" and other not in MAY_IMPORT[part] | {part}:
                wrong.append(f"{relative(path)} imports {module}")
    assert not wrong


def test_modules_of_a_part_import_each_other_one_way() -> None:
    files = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for part in ONE_WAY
        for path in work_tree(f"plugin/hybrid_messaging/{part}/*.py")
    }
    assert files
    # raises CycleError, which names them
    graphlib.TopologicalSorter(
        {
            name: {
                module
                for used in imported(path)
                for module in files
                if f"{used}.".startswith(f"{module}.")
            }
            for name, path in files.items()
        }
    ).prepare()


def test_packages_that_list_their_modules_list_all_of_them() -> None:
    missing = []
    for package in sorted(LISTING):
        folder = PACKAGE / package
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        listed = set(re.findall(r"\w+", text))
        missing += [
            relative(path)
            for path in folder.glob("*.py")
            if path.stem not in listed and not path.stem.startswith("__")
        ]
    assert not missing


#: What is easily done in a way that is almost right, and the modules that do it. The
#: log of an engine is written by a program that imports nothing of ours.
ONCE = {
    "fcntl.flock(": {"locks.py", "engines/log_writer.py"},
    "tempfile.mkstemp(": {"whole_file.py"},
    "Path(__file__)": {"resources.py"},
}


@pytest.mark.parametrize(("name", "expected"), ONCE.items())
def test_some_things_are_done_in_one_place(name: str, expected: set[str]) -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in work_tree("plugin/**/*.py")
        if name in path.read_text()
    }
    assert found == expected


def test_each_module_of_a_kind_is_found_by_its_name() -> None:
    modules = {path.stem for path in (PACKAGE / "engines/kinds").glob("[a-z]*.py")}
    assert modules == set(kinds.KINDS)
    for name in modules:
        assert type(kinds.get(name)).__module__.endswith(f".{name}")


def test_one_module_knows_the_driver_interface_of_oslo_messaging() -> None:
    importers = {
        relative(path)
        for path in work_tree("plugin/**/*.py")
        for module in imported(path)
        if module.startswith("oslo_messaging._")
    }
    assert importers == {"plugin/hybrid_messaging/drivers/oslo.py"}


def entry_points() -> list[metadata.EntryPoint]:
    return [
        entry_point
        for entry_point in metadata.distribution("hybrid-messaging").entry_points
        if entry_point.group != "console_scripts"
    ]


@pytest.mark.parametrize("entry_point", entry_points(), ids=lambda item: item.name)
def test_entry_points_lead_somewhere(entry_point: metadata.EntryPoint) -> None:
    assert callable(entry_point.load())


def test_the_installed_entry_points_are_those_of_setup_cfg() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    declared = {
        (group, *(word.strip() for word in line.split("=")))
        for group, lines in setup["options.entry_points"].items()
        for line in lines.strip().splitlines()
    }
    installed = metadata.distribution("hybrid-messaging").entry_points
    assert {(item.group, item.name, item.value) for item in installed} == declared


def test_qpid_proton_was_built_with_tls_and_sasl() -> None:
    cure = "tools/install-packages.sh compile, then tools/make-venv.sh"
    assert proton.SSL.present(), cure
    assert proton.SASL.extended(), cure


#: Options whose names mean something else to each command that has them.
HOMONYMS = {"--config", "--host", "--hosts", "--name", "--port", "--vhost"}


def test_options_of_several_commands_are_in_one_place() -> None:
    places: dict[str, set[str]] = {}
    for path in work_tree("plugin/hybrid_messaging/cli/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and "add_argument" in ast.unparse(node.func):
                for name in node.args:
                    if isinstance(name, ast.Constant) and name.value[:1] == "-":
                        places.setdefault(name.value, set()).add(path.name)
    repeated = {name for name, modules in places.items() if len(modules) > 1}
    assert repeated == HOMONYMS
