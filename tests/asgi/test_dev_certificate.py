"""The development certificate of a server that runs for long."""

import asyncio
import datetime
import logging
import ssl

import pronghorn
from harness import aio
from pronghorn import _core, server


async def nothing(scope, receive, send):
    raise AssertionError("never called")


def dev_server(folder):
    return pronghorn.Server(
        nothing,
        pronghorn.Config(
            dev=True,
            cert_dir=folder,
            bind="127.0.0.1:0",
            quic_bind="127.0.0.1:0",
            lifespan="off",
        ),
    )


async def serve_briefly(running):
    serve = asyncio.create_task(running.serve())
    await running.wait_started()
    await asyncio.sleep(0)  # timers that are due have run when this turn of the loop is over
    running.shutdown()
    await serve


def test_expiry_is_what_the_certificate_says(tmp_path):
    certfile, _, _ = _core.dev_certificate(tmp_path)
    shown = ssl._ssl._test_decode_cert(certfile)["notAfter"]
    expected = datetime.datetime.fromtimestamp(
        ssl.cert_time_to_seconds(shown), datetime.timezone.utc
    )
    assert server.expiry_of(certfile) == expected


@aio
async def test_a_server_says_when_its_certificate_is_about_to_expire(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(server, "EXPIRY_NOTICE", 14 * 86400.0)
    with caplog.at_level(logging.WARNING, "pronghorn"):
        await serve_briefly(dev_server(tmp_path))
    (record,) = caplog.records
    expiry = server.expiry_of(tmp_path / "dev-cert.pem")
    assert f"at={expiry:%Y-%m-%dT%H:%M:%SZ}: restart to renew it" in record.getMessage()


@aio
async def test_before_that_it_is_silent_and_a_stop_cancels_the_timer(tmp_path, caplog):
    running = dev_server(tmp_path)
    with caplog.at_level(logging.WARNING, "pronghorn"):
        await serve_briefly(running)
    assert not caplog.records
    timer = running._dev_timer
    assert timer is not None and timer.cancelled()
    days = (timer.when() - asyncio.get_running_loop().time()) / 86400
    assert 11 < days < 12
