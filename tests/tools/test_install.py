"""The C library as its user gets it: installed, found by pkg-config, with a clean surface."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
#include <pronghorn.h>
#include <stdio.h>
#include <string.h>
int main(void)
{
    ph_config *config = ph_config_new();
    int error = ph_config_set(config, "bind", "127.0.0.1:0");
    ph_config_free(config);
    puts(ph_version());
    return error != 0 || strcmp(ph_version(), PH_VERSION_STRING) != 0;
}
"""


def run(*args, **settings):
    done = subprocess.run(
        [str(arg) for arg in args], capture_output=True, text=True, check=False, **settings
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A root into which the release build was installed, and the folder of the library there."""
    folder = tmp_path_factory.mktemp("installed")
    tags = "devel,runtime"
    meson = [sys.executable, "-m", "mesonbuild.mesonmain"]
    run(*meson, "install", "--no-rebuild", "--tags", tags, "--destdir", folder, cwd=build())
    (found,) = folder.rglob("pronghorn.pc")
    return folder, found.parent.parent


def build():
    return os.environ.get("PH_EXAMPLES_DIR", ROOT / "build/release")


def test_a_program_builds_with_pkg_config_and_runs(installed, tmp_path):
    root, libraries = installed
    environ = os.environ | {
        "PKG_CONFIG_PATH": str(libraries / "pkgconfig"),
        "PKG_CONFIG_SYSROOT_DIR": str(root),
        "LD_LIBRARY_PATH": str(libraries),
    }
    environ.pop("LD_PRELOAD", None)
    flags = run("pkg-config", "--cflags", "--libs", "pronghorn", env=environ).split()
    (tmp_path / "main.c").write_text(PROGRAM)
    run("cc", "-Wall", "-Werror", "main.c", "-o", "main", *flags, cwd=tmp_path, env=environ)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(tmp_path / "main", env=environ))


def test_the_library_exports_what_the_header_declares(installed):
    library = installed[1] / "libpronghorn.so.0"
    exported = set(re.findall(r" T (\w+)", run("nm", "-D", "--defined-only", library)))
    header = (ROOT / "include/pronghorn.h").read_text()
    declared = set(re.findall(r"^PH_API [^;(]*?(\w+)\(", header, re.MULTILINE))
    assert exported == declared
    assert "libpronghorn.so.0\n" in run("objdump", "-p", library).replace("]", "\n")


def test_release_objects_are_hardened(installed):
    library = installed[1] / "libpronghorn.so.0"
    headers = run("readelf", "-Wld", library)
    assert "GNU_RELRO" in headers
    assert "BIND_NOW" in headers or "NOW" in headers
    stack = re.search(r"GNU_STACK.*", headers)
    assert stack is not None
    assert "RWE" not in stack[0]
