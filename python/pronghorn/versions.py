"""Versions of the libraries that the extension was loaded with, asked from themselves."""

from __future__ import annotations

import ctypes
import re
import sys


class _Info(ctypes.Structure):
    """ngtcp2_info and nghttp3_info begin alike."""

    _fields_ = [
        ("age", ctypes.c_int),
        ("version_num", ctypes.c_int),
        ("version_str", ctypes.c_char_p),
    ]


def libraries() -> dict[str, str]:
    """Name to version, of the libraries found among this process's mappings."""
    out = {"Python": sys.version.split()[0]}
    for name, path in sorted(loaded("ngtcp2", "nghttp3", "gnutls").items()):
        library = ctypes.CDLL(path)
        if name == "gnutls":
            library.gnutls_check_version.restype = ctypes.c_char_p
            version = library.gnutls_check_version(None)
        else:
            ask = getattr(library, f"{name}_version")
            ask.restype = ctypes.POINTER(_Info)
            version = ask(0).contents.version_str
        out[name] = version.decode()
    return out


def loaded(*names: str) -> dict[str, str]:
    """Paths of the shared libraries lib<name>.so that this process has mapped."""
    pattern = re.compile(rf"(/\S*/lib({'|'.join(names)})(?:-[0-9a-f]+)?\.so\S*)$", re.MULTILINE)
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        return {name: path for path, name in pattern.findall(maps.read())}
