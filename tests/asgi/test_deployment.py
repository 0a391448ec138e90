"""What docs/ shows can be used as it stands: commands are accepted, configurations load, proxies in
front work."""

import asyncio
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness import CERTS, aio, serving
from pronghorn import _core
from pronghorn.cli import core_words, parse
from pronghorn.sources import Settings, tomllib

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEPLOYMENT = (ROOT / "docs/deployment.md").read_text()
COMMAND = re.compile(r"^(?:    |ExecStart=)(\S*/)?pronghorn (.+)$", re.MULTILINE)


def shown_commands():
    for page in PAGES:
        for found in COMMAND.finditer(page.read_text()):
            if "[options]" not in found[2]:
                yield pytest.param(found[2], id=f"{page.stem}: {found[2][:40]}")


def block(language):
    found = re.findall(rf"^```{language}\n(.*?)^```", DEPLOYMENT, re.DOTALL | re.MULTILINE)
    assert found, language
    return found[0]


def config_of(words):
    files = r"\S*\w\.pem"  # not here, but another file will do
    args = parse([re.sub(files, __file__, word) for word in words])
    settings = Settings()
    settings.take([*args.given, *core_words(args.option)])
    return settings.config()


@pytest.mark.parametrize("text", list(shown_commands()))
def test_commands_of_the_pages_are_accepted(text):
    words = shlex.split(re.sub(r"  +#.*|  +\(.*", "", text))
    config_of(words).validate()


def test_the_containers_command_is_accepted():
    entry, rest = re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", block("dockerfile"), re.MULTILINE)
    words = tomllib.loads(f"a = {entry}\nb = {rest}")
    config = config_of(words["a"][1:] + words["b"])
    assert config.alt_svc_value == 'h3=":443"; ma=86400'


def test_the_configuration_file_is_understood():
    settings = Settings()
    found = tomllib.loads(block("toml"))
    settings.take((key, key, value) for key, value in found.items() if "file" not in key)
    config = settings.config()
    config.validate()
    assert (config.workers, config.graceful_timeout, config.bind) == (4, 30, [":443"])
    stop = int(re.search(r"TimeoutStopSec=(\d+)", DEPLOYMENT)[1])
    assert stop > config.graceful_timeout + config.shutdown_timeout


# --- proxies in front ---


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        text = repr((scope["client"][0], scope["scheme"]))
        await send({"type": "websocket.send", "text": text})
        await send({"type": "websocket.close"})
        return
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    text = repr((scope["client"][0], scope["scheme"], scope["http_version"], len(body)))
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": text.encode()})


CLIENT = "127.0.0.2"  # not the proxy's own address, which is trusted
# curl stands still when a sanitizer that is meant for us is loaded into it.
PLAIN = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}


async def curl(port, *args, body=b""):
    process = await asyncio.create_subprocess_exec(
        "curl", "-sk", "--noproxy", "*", "--interface", CLIENT, "--max-time", "30", *args,
        f"https://{ADDRESS}:{port}/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=PLAIN,
    )  # fmt: skip
    out, _ = await process.communicate(body)
    return out.decode()


async def first_frame(port):
    """The payload of the first frame after a WebSocket handshake through the proxy."""
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-quiet", "-connect", f"{ADDRESS}:{port}", "-alpn", "http/1.1",
        "-bind", f"{CLIENT}:0",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=PLAIN,
    )  # fmt: skip
    process.stdin.write(
        b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    head = await asyncio.wait_for(process.stdout.readuntil(b"\r\n\r\n"), 30)
    assert b" 101 " in head.partition(b"\r\n")[0], head
    _, length = await asyncio.wait_for(process.stdout.readexactly(2), 30)
    text = await asyncio.wait_for(process.stdout.readexactly(length), 30)
    process.kill()
    await process.communicate()
    return text.decode()


async def wait_until_listening(process, address):
    for _ in range(3000):
        assert process.returncode is None
        try:
            _, writer = await asyncio.open_connection(*address)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    raise AssertionError("the proxy does not listen")


# A proxy cannot be asked which port it got. On an address that no other process of the tests uses,
# nobody takes the one that it is told of.
ADDRESS = f"127.{64 + os.getpid() // 65536 % 128}.{os.getpid() // 256 % 256}.{os.getpid() % 256}"


def free_port():
    with socket.create_server((ADDRESS, 0)) as taken:
        return taken.getsockname()[1]


PROXIES = Path(sys.prefix) / "proxies"  # where tools/setup.sh --tests unpacks them


def proxy(name):
    """What starts it; None: it is not here."""
    if found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"):
        return [found]
    unpacked = PROXIES / "usr/sbin" / name
    if not unpacked.exists():
        return None
    folders = [*PROXIES.glob("usr/lib/*-linux-gnu*"), *PROXIES.glob("lib/*-linux-gnu*")]
    return ["env", f"LD_LIBRARY_PATH={':'.join(map(str, folders))}", str(unpacked)]


def with_proxy(name):
    return pytest.mark.skipif(proxy(name) is None, reason=f"{name} is not installed")


async def check_through(command, port):
    """HTTP/1.1 and HTTP/2, an upload, WebSocket; the client is the proxy's, not a forged one."""
    forged = ["-H", "X-Forwarded-For: 6.6.6.6"]
    process = await asyncio.create_subprocess_exec(*command, env=PLAIN)
    try:
        await wait_until_listening(process, (ADDRESS, port))
        for version in ("--http1.1", "--http2"):
            text = await curl(port, version, *forged)
            assert text == repr((CLIENT, "https", "1.1", 0)), (version, text)
        text = await curl(port, "--data-binary", "@-", body=b"a" * 200_000)
        assert text == repr((CLIENT, "https", "1.1", 200_000))
        assert await first_frame(port) == repr((CLIENT, "wss"))
    finally:
        process.terminate()
        await process.wait()


@with_proxy("nginx")
@aio
async def test_behind_nginx(tmp_path):
    cert, key, _ = _core.dev_certificate(CERTS)
    port = free_port()
    site = (
        block("nginx")
        .replace("listen 443 ssl", f"listen {ADDRESS}:{port} ssl")
        .replace("    listen [::]:443 ssl http2;\n", "")
        .replace("/etc/site/cert.pem", cert)
        .replace("/etc/site/key.pem", key)
        .replace("/run/site/web.sock", f"{tmp_path}/web.sock")
    )
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {tmp_path}/{name};\n" for name in names)
    # As root nginx runs its workers as somebody who may not look into the folders of the tests.
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(
        f"{user}\ndaemon off;\npid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{site}\n}}\n"
    )
    settings = {"insecure_bind": f"unix:{tmp_path}/web.sock", "forwarded_allow_ips": "unix"}
    async with serving(app, **settings):
        start = [*proxy("nginx"), "-e", "stderr", "-p", str(tmp_path)]
        await check_through([*start, "-c", str(tmp_path / "nginx.conf")], port)


@with_proxy("haproxy")
@aio
async def test_behind_haproxy(tmp_path):
    cert, key, _ = _core.dev_certificate(CERTS)
    pem = tmp_path / "site.pem"
    pem.write_text(Path(cert).read_text() + Path(key).read_text())
    port = free_port()
    async with serving(app, forwarded_allow_ips="127.0.0.1") as server:
        text = (
            block("haproxy")
            .replace("bind :443", f"bind {ADDRESS}:{port}")
            .replace("/etc/haproxy/site.pem", str(pem))
            .replace("server one 10.0.0.11:8000", f"server one 127.0.0.1:{server.http}")
            .replace("    server two 10.0.0.12:8000 check\n", "")
        )
        (tmp_path / "haproxy.cfg").write_text(text.replace("maxconn 20000", "maxconn 100"))
        await check_through([*proxy("haproxy"), "-q", "-f", f"{tmp_path}/haproxy.cfg"], port)
