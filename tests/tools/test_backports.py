"""tools/backports.sh derives a backports source from whatever form the apt sources have."""

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools/backports.sh"


def backports(apt: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, "bookworm", apt], capture_output=True, text=True, check=False
    )


def test_one_line_format_keeps_mirror_and_key(tmp_path):
    (tmp_path / "sources.list").write_text(
        "# a comment\n"
        "deb-src http://mirror.test/debian bookworm main\n"
        "deb http://mirror.test/debian bookworm-updates main\n"
        "deb [arch=amd64 signed-by=/key.gpg] http://mirror.test/debian bookworm main contrib\n"
    )
    assert backports(tmp_path).stdout == (
        "list\n"
        "deb [arch=amd64 signed-by=/key.gpg] http://mirror.test/debian bookworm-backports main\n"
    )


def test_one_line_format_in_the_directory(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a.list").write_text("deb http://m.test/d bookworm main\n")
    assert backports(tmp_path).stdout == "list\ndeb http://m.test/d bookworm-backports main\n"


def test_deb822_format_keeps_mirror_and_written_out_key(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb\nURIs: http://sec.test/\nSuites: bookworm-security\nComponents: main\n\n"
        "# main\nTypes: deb deb-src\nURIs: http://mirror.test/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main contrib\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )
    assert backports(tmp_path).stdout == (
        "sources\nTypes: deb\nURIs: http://mirror.test/debian\nSuites: bookworm-backports\n"
        "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )


def test_disabled_and_foreign_sources_do_not_count(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://a.test/\nSuites: bookworm\nComponents: main\n\n"
        "Types: deb\nURIs: http://b.test/\nSuites: trixie\nComponents: main\n"
    )
    result = backports(tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
