"""The same facts on uvloop: a handful of the other files' tests, run in its event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import test_frameworks
import test_wt_datagrams
import test_wt_errors
import test_wt_events
import test_wt_streams
from harness import run_in
from peers import every_version

uvloop = pytest.importorskip("uvloop")

HTTP = [test_frameworks.test_starlette, test_frameworks.test_fastapi]
WEBTRANSPORT = [
    test_wt_events.test_scope_keys,
    test_wt_events.test_guarantee_1_connect_comes_first_and_once_and_alone,
    test_wt_events.test_guarantee_2_bytes_in_order_then_one_end,
    test_wt_events.test_guarantee_3_opened_precedes_other_events_of_its_stream,
    test_wt_events.test_guarantee_6_data_before_the_end_is_delivered_and_disconnect_is_last,
    test_wt_events.test_several_receives_are_served_in_order,
    test_wt_errors.test_row_session_gone,
    test_wt_errors.test_task_is_not_cancelled_at_disconnect_but_at_the_deadline,
    test_wt_errors.test_stream_send_waits_above_the_high_water_mark_and_a_cancelled_one_sent_nothing,
    test_wt_errors.test_unread_stream_stops_the_peer_at_the_window_and_loses_nothing,
    test_wt_datagrams.test_flood_at_a_client_that_takes_nothing_keeps_the_newest_in_order,
    test_wt_datagrams.test_wait_waits_for_room_at_a_client_that_takes_nothing_and_loses_nothing,
    test_wt_datagrams.test_every_64th_send_lets_other_tasks_run_once,
    test_wt_streams.test_reset_wakes_a_send_that_waits,
]

Test = Callable[..., Any]


@every_version
@pytest.mark.parametrize("test", HTTP, ids=lambda test: test.__name__)
def test_http_on_uvloop(test: Test, version: str) -> None:
    run_in(uvloop.new_event_loop, test.__wrapped__(version))


@pytest.mark.parametrize("test", WEBTRANSPORT, ids=lambda test: test.__name__)
def test_webtransport_on_uvloop(test: Test) -> None:
    run_in(uvloop.new_event_loop, test.__wrapped__())
