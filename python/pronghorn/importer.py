"""Finds the application that "module:attribute" names, and makes an ASGI 3 callable of it."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from .errors import ConfigError, NotAnApplication, StartupError, UserCodeError, described

App = Callable[..., Awaitable[Any]]
_HERE = os.path.dirname(__file__)


def import_app(
    target: str,
    *,
    app_dir: str | os.PathLike[str] = "",
    factory: bool = False,
    interface: str = "auto",
) -> App:
    """Imports and returns the application. ConfigError: `target` is not of the form
    "module:attribute"; StartupError: there is no such thing; UserCodeError: its code raised."""
    form, _, rest = target.partition(":")
    if form in ("asgi", "wsgi") and ":" in rest:  # hypercorn's way to name the interface
        target, interface = rest, "wsgi" if form == "wsgi" else interface
    found = import_object("app", target, app_dir)
    return prepare_app(found, factory=factory, interface=interface, name=target)


def import_loop(target: str, app_dir: str | os.PathLike[str]) -> Callable[[], Any]:
    """What makes the event loop."""
    factory = import_object("loop", target, app_dir)
    if not callable(factory):
        raise StartupError(f"loop: {target}: {described(factory)} cannot be called")
    return factory


def import_object(option: str, target: str, app_dir: str | os.PathLike[str]) -> Any:
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise ConfigError(f"{option}: {target!r} is not MODULE:ATTRIBUTE, such as main:app")
    if attribute.endswith("()"):
        name = target.removesuffix("()")
        raise ConfigError(
            f"{option}: {target!r} is no name: write {name} and say that it is a factory"
        )
    check_module_name(option, target, module_name, attribute)
    folder = os.path.abspath(app_dir)
    if not os.path.isdir(folder):
        raise ConfigError(f"app_dir: no such folder: {os.fspath(app_dir)!r}")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name and (module_name == exc.name or module_name.startswith(exc.name + ".")):
            raise StartupError(f"no module {exc.name!r} in {folder} or on sys.path") from None
        raise UserCodeError(f"importing {module_name!r} failed") from without_our_frames(exc)
    except (Exception, SystemExit) as exc:
        raise UserCodeError(f"importing {module_name!r} failed") from without_our_frames(exc)
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise StartupError(f"module {module_name!r} has no attribute {attribute!r}") from None
    return found


def check_module_name(option: str, target: str, module_name: str, attribute: str) -> None:
    """Says how to write what looks like the path of a file."""
    path = module_name.replace("\\", "/")
    if "/" in path or path.endswith(".py"):
        folder, _, name = path.removesuffix(".py").rpartition("/")
        where = f" and give its folder {folder or '/'!r} as app_dir" if "/" in path else ""
        raise ConfigError(
            f"{option}: {target!r} names a file, not a module: write {name}:{attribute}{where}"
        )
    if not all(module_name.split(".")):
        raise ConfigError(f"{option}: {target!r}: {module_name!r} is not the full name of a module")


def prepare_app(
    app: Any, *, factory: bool = False, interface: str = "auto", name: str = "app"
) -> App:
    """Calls a factory and wraps what is not ASGI 3. StartupError: it is not an application."""
    if factory:
        if not callable(app):
            raise NotAnApplication(f"{name}: not a factory: {described(app)} cannot be called")
        try:
            app = app()
        except (Exception, SystemExit) as exc:
            raise UserCodeError(f"the factory {name} failed") from without_our_frames(exc)
    if not callable(app):
        raise NotAnApplication(f"{name}: not an application: {described(app)} cannot be called")
    if interface == "wsgi":
        return wsgi_app(app)
    if interface == "asgi3" or (interface == "auto" and takes(app, 3)):
        return app
    if interface == "asgi2" or (takes(app, 1) and not is_asynchronous(app)):
        return single_callable(app, name)
    hint = "" if factory or not takes(app, 0) else "; if it makes the application, say so: factory"
    if takes(app, 2) and not is_asynchronous(app):
        hint = "; if it is a WSGI application, say so: interface=wsgi"
    raise NotAnApplication(
        f"{name}: not an ASGI application: it does not take (scope, receive, send){hint}"
    )


def wsgi_app(app: Any) -> App:
    """A WSGI application runs in threads of its own, as a2wsgi has it."""
    try:
        from a2wsgi import WSGIMiddleware
    except ImportError:
        raise StartupError("interface: wsgi needs a2wsgi: pip install 'pronghorn[wsgi]'") from None
    return WSGIMiddleware(app)


def takes(app: Callable[..., Any], count: int) -> bool:
    """Whether `count` positional arguments fit."""
    try:
        inspect.signature(app).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature: it will tell when it is called
        return count == 3
    return True


def is_asynchronous(app: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine or an asynchronous generator, never another callable."""
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(is_kind(what) for is_kind in kinds for what in (app, type(app).__call__))


def single_callable(app: Callable[..., Any], name: str) -> App:
    """ASGI 2 is called twice: first with the scope, then with receive and send."""

    @functools.wraps(app, updated=())
    async def single(scope: Any, receive: Any, send: Any) -> Any:
        instance = app(scope)
        if not callable(instance):
            raise NotAnApplication(
                f"{name}: not an ASGI application: called with a scope it returned"
                f" {described(instance)}"
            )
        return await instance(receive, send)

    return single


def without_our_frames(exc: BaseException) -> BaseException:
    """The same exception with a traceback that begins in the user's code."""
    tb: TracebackType | None = exc.__traceback__
    while tb is not None and is_ours(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return exc.with_traceback(tb)


def is_ours(filename: str) -> bool:
    return (
        os.path.dirname(filename) == _HERE
        or filename.startswith("<frozen importlib")
        or filename == importlib.__file__
    )
