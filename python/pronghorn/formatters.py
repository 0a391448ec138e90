"""Formatters that a log_config written for uvicorn names, with the fields that they have there."""

from __future__ import annotations

import copy
import logging
from typing import Any

from .access import phrase
from .log import COLOURS, is_coloured


class DefaultFormatter(logging.Formatter):
    """With `%(levelprefix)s`: the level and a colon."""

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Any = "%",
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(fmt, datefmt, style)
        self._coloured = is_coloured(use_colors)

    def formatMessage(self, record: logging.LogRecord) -> str:
        own = copy.copy(record)  # other handlers get the same record
        self.add_fields(own)
        return super().formatMessage(own)

    def add_fields(self, record: logging.LogRecord) -> None:
        name = record.levelname
        code = COLOURS.get(name.lower(), "32")
        shown = f"\x1b[{code}m{name}\x1b[0m" if self._coloured else name
        record.levelprefix = f"{shown}:{' ' * (8 - len(name))}"


class AccessFormatter(DefaultFormatter):
    """With `%(client_addr)s`, `%(request_line)s` and `%(status_code)s`, too."""

    def add_fields(self, record: logging.LogRecord) -> None:
        super().add_fields(record)
        args = record.args
        if not isinstance(args, tuple) or len(args) != 5:  # a line of access_log_format
            args = ("-", "-", record.message, "-", 0)
        client, method, target, version, status = args
        record.client_addr = client
        record.request_line = f"{method} {target} HTTP/{version}"
        record.status_code = f"{status} {phrase({}, int(str(status)))}"
