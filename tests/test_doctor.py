"""Protects ``datagen doctor``: each kind of missing or broken package gets its own advice."""

import pytest

from datagen import cli, commands
from datagen.doctor import CAPABILITIES, Capability, diagnose

ABSENT = Capability("no_such_package", "tries", "import no_such_package", "pip install it", False)
LOADER = "libusb-1.0.so.0: cannot open shared object file: No such file or directory"


def capability(code: str, **fields) -> Capability:
    return Capability("thing", "does things", code, "pip install thing", **fields)


def test_working_capability_shows_the_last_line_of_its_check():
    found = diagnose(capability("print('banner'); print('1.2.3')"))
    assert (found.state, found.details, found.healthy) == ("ok", "1.2.3", True)
    assert found.line() == "ok        thing (does things): 1.2.3"


def test_missing_extra_is_left_out_and_named_with_its_install_command():
    found = diagnose(ABSENT)
    assert (found.state, found.healthy) == ("absent", True)
    assert found.line().startswith("left out  no_such_package")
    assert "`pip install it`" in found.details


def test_missing_system_library_is_named_with_its_debian_package():
    found = diagnose(capability(f"raise ImportError({LOADER!r})", required=False))
    assert (found.state, found.healthy) == ("broken", False)
    assert "apt-get install -y" in found.details and "libusb-1.0-0" in found.details


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", "it ended with code -11"),
        ("raise RuntimeError('no device')", "RuntimeError: no device; install it again"),
        ("import part_of_it", "No module named 'part_of_it'; install it again"),
    ],
)
def test_other_failure_shows_the_last_line_of_its_error(code, words):
    found = diagnose(capability(code))
    assert found.state == "broken" and words in found.details


def test_exit_code_is_one_only_if_something_is_wrong(monkeypatch, capsys):
    works = capability("print(1)")
    for capabilities, expected in (((works, ABSENT), 0), ((works, capability("1 / 0")), 1)):
        found = [diagnose(c) for c in capabilities]
        monkeypatch.setattr(commands, "examine", lambda found=found: found)
        assert cli.main(["doctor"]) == expected
    assert "broken    thing" in capsys.readouterr().out


def test_evaluation_and_textures_are_extras_and_everything_else_required():
    assert {c.module for c in CAPABILITIES if not c.required} == {"open3d", "fcl", "xatlas"}
