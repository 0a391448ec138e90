#!/usr/bin/env python3
"""Writes what is made from the option tables: docs/limits.md (the core's table), docs/settings.md
(the server's), the tables of docs/coming-from.md, and the attributes of Config for type checkers.
--check only says whether they are current."""

import dataclasses
import re
import sys
from pathlib import Path

from pronghorn import Config, _core, kinds
from pronghorn.aliases import SAME, Alias, aliases_of
from pronghorn.options import GROUPS, Options, option_of

ROOT = Path(__file__).resolve().parent.parent
LIMITS_PAGE = ROOT / "docs/limits.md"
SETTINGS_PAGE = ROOT / "docs/settings.md"
COMING_PAGE = ROOT / "docs/coming-from.md"
STUB = ROOT / "python/pronghorn/core_options.pyi"

LIMITS_HEAD = """\
# Options and limits of the core

Every option of the core with its default and what it accepts. Made by `tools/gen_limits.py` from
the table in `src/core/config.c`; CI checks that it is current.

Set one with `--option NAME=VALUE`, `Config(options={"NAME": value})` or `ph_config_set()`. Bytes
take the units K, M and G, times take ms, s and m. Each is also a setting of the server under the
same name, where times are in seconds ([settings.md](settings.md)). What a running server refused
because of a limit is counted: each has its counter in `ph_stats` (`pronghorn.stats()`).

| option | default | accepts | what it is |
| --- | --- | --- | --- |
"""

SETTINGS_HEAD = """\
# Settings

Every setting of the server. Made by `tools/gen_limits.py` from the table in
`python/pronghorn/options.py` and the core's in `src/core/config.c`; CI checks that it is current.

Each can be given in four ways; the first that is used wins:

1. on the command line: `--keep-alive 30`; switches are `--access-log` and `--no-access-log`; what
   is repeatable is repeated, or has commas between its values;
2. in the environment: `PRONGHORN_KEEP_ALIVE=30`; several values have commas between them (`header`:
   line breaks), switches are `on` or `off`;
3. in a TOML file named by `--config FILE` (or `PRONGHORN_CONFIG`): `keep_alive = 30`, lists as
   lists; relative paths are relative to the current folder;
4. in code: `Config(keep_alive=30)` (the command line, the environment and the file are not looked
   at then).

`--env-file FILE` (or `PRONGHORN_ENV_FILE`) reads environment variables for the application, and
for settings, from lines `NAME=VALUE`; a variable that is set already stays. The application itself
can be named by `app` in the file or `PRONGHORN_APP`.

Times are seconds, or text with a unit: `500ms`, `10s`, `2m`. Sizes are bytes, or text: `64K`,
`16M`, `1G`. A name that does not exist is an error that says which is near (in the environment a
line that says so: the variable may be meant for something else). Names of uvicorn,
hypercorn and gunicorn are accepted too: [coming-from.md](coming-from.md).
"""

STUB_HEAD = '''\
"""Made by tools/gen_limits.py from the core's option table, for type checkers."""

{imports}
from .options import Options

class CoreOptions(Options):
'''
STUB_NAMES = (("collections.abc", "Iterable"), ("os", "PathLike"))


def limits_page() -> str:
    rows = []
    for name, kind, default, accepts, text, repeatable in _core.options():
        unit = {"bytes": " bytes", "milliseconds": " ms"}.get(kind, "")
        shown = f"{default}{unit if default.isdigit() else ''}" or "-"
        more = " Repeatable." if repeatable else ""
        rows.append(f"| `{name}` | {shown} | {accepts} | {text}{more} |".replace("*", "\\*"))
    return LIMITS_HEAD + "\n".join(rows) + "\n"


def settings_page() -> str:
    out = [SETTINGS_HEAD]
    for group in GROUPS:
        out.append(f"\n## {group}\n\n| setting | default | accepts | what it is |\n")
        out.append("| --- | --- | --- | --- |\n")
        for field in dataclasses.fields(Config):
            option = option_of(field)
            if option is None or option.group != group:
                continue
            names = ", ".join(f"`{name}`" for name in (field.name, *option.flags))
            text = option.help + (" Repeatable." if option.kind.repeatable else "")
            if option.env:
                text += f" Also {', '.join(f'`{name}`' for name in option.env)}."
            default = option.default_text(field.default) or "-"
            cells = f"| {names} | {default} | {option.kind.accepts} | {text} |\n"
            out.append(cells.replace("*", "\\*"))
    return "".join(out)


def alias_row(alias: Alias) -> str:
    names = [f"`{flag}`" for flag in (f"--{alias.name.replace('_', '-')}", *alias.flags)]
    to = f"`--{alias.to.replace('_', '-')}`" if alias.to else "-"
    if alias.refused:
        what = f"refused: {alias.refused}"
    elif not alias.to and alias.means is None:
        what = f"accepted without effect: {alias.remark}"
    else:
        what = alias.remark
    return f"| {', '.join(names)} | {to} | {what} |\n"


def coming_page() -> str:
    """The page with its tables, which stand between marks, replaced."""
    text = COMING_PAGE.read_text(encoding="utf-8")
    for server in SAME:
        head = f"| {server} | here | |\n| --- | --- | --- |\n"
        rows = "".join(alias_row(alias) for alias in aliases_of(server))
        rows += "".join(
            f"| `--{name.replace('_', '-')}` | the same | {remark} |\n"
            for name, remark in SAME[server].items()
        )
        start, end = f"<!-- {server} -->\n", f"<!-- end of {server} -->"
        pattern = re.escape(start) + r".*?" + re.escape(end)
        text = re.sub(pattern, lambda _, new=start + head + rows + end: new, text, flags=re.DOTALL)
    return text


def stub() -> str:
    own = {field.name for field in dataclasses.fields(Options)}
    lines = []
    for field in dataclasses.fields(Config):
        option = option_of(field)
        if field.name not in own and option is not None:
            lines.append(f"    {field.name}: {type_of(option.kind)}\n")
    body = "".join(lines)
    imports = [f"from {module} import {name}\n" for module, name in STUB_NAMES if name in body]
    return STUB_HEAD.format(imports="".join(imports)) + body


def type_of(kind: kinds.Kind) -> str:
    if isinstance(kind, kinds.Listed):
        return "str | Iterable[str] | None"
    types = {
        kinds.Flag: "bool",
        kinds.Seconds: "float | str",
        kinds.Size: "int | str",
        kinds.Number: "int",
        kinds.Path: "str | PathLike[str]",
    }
    return types.get(type(kind), "str") + " | None"


def main() -> None:
    stale = []
    for path, wanted in (
        (LIMITS_PAGE, limits_page()),
        (SETTINGS_PAGE, settings_page()),
        (COMING_PAGE, coming_page()),
        (STUB, stub()),
    ):
        if path.exists() and path.read_text(encoding="utf-8") == wanted:
            continue
        if "--check" in sys.argv:
            stale.append(str(path.relative_to(ROOT)))
        else:
            path.write_text(wanted, encoding="utf-8")
    if stale:
        sys.exit(f"not current: {', '.join(stale)}: run tools/gen_limits.py")


if __name__ == "__main__":
    main()
