"""Made by tools/gen_limits.py from the core's option table, for type checkers."""

from collections.abc import Iterable

from .options import Options

class CoreOptions(Options):
    alt_svc: bool | None
    alt_svc_value: str | None
    h2c: bool | None
    congestion: str | None
    retry: str | None
    handshake_timeout: float | str | None
    idle_timeout: float | str | None
    header_timeout: float | str | None
    body_timeout: float | str | None
    keep_alive: float | str | None
    write_stall_timeout: float | str | None
    min_send_rate: int | str | None
    min_body_rate: int | str | None
    body_rate_grace: float | str | None
    no_request_timeout: float | str | None
    max_connections: int | None
    max_connections_per_ip: int | None
    unlimited_peer: str | Iterable[str] | None
    max_concurrent_app_calls: int | None
    memory_budget: int | str | None
    head_bytes: int | str | None
    head_fields: int | None
    target_bytes: int | str | None
    head_encoded: int | str | None
    max_body: int | str | None
    body_window: int | str | None
    keep_alive_requests: int | None
    pipelined_max: int | None
    chunk_overhead: int | str | None
    chunk_extension: int | str | None
    h2_max_streams: int | None
    h2_max_frame: int | str | None
    h2_header_table: int | str | None
    h2_settings_max: int | None
    h2_continuations: int | None
    h2_replies_max: int | None
    h2_stream_window: int | str | None
    h2_conn_window: int | str | None
    h2_idle_timeout: float | str | None
    h2_reset_burst: int | None
    h2_reset_rate: int | None
    half_open_retry: int | None
    half_open_max: int | None
    max_streams_bidi: int | None
    max_streams_uni: int | None
    stream_window: int | str | None
    conn_window: int | str | None
    window_max: int | str | None
    max_datagram_frame: int | str | None
    vn_rate: int | None
    retry_rate: int | None
    reset_rate: int | None
    glitch_burst: int | None
    glitch_rate: int | None
    cancel_burst: int | None
    cancel_rate: int | None
    webtransport: bool | None
    websocket: bool | None
    ws_allowed_origin: str | Iterable[str] | None
    ws_max_size: int | str | None
    ws_max_frames: int | None
    ws_max_queue: int | None
    ws_queue_bytes: int | str | None
    ws_ping_interval: float | str | None
    ws_ping_timeout: float | str | None
    ws_close_timeout: float | str | None
    ws_per_message_deflate: bool | None
    wt_allowed_origin: str | Iterable[str] | None
    wt_max_sessions: int | None
    wt_session_burst: int | None
    wt_session_rate: int | None
    wt_accept_timeout: float | str | None
    wt_close_timeout: float | str | None
    wt_pending_sessions: int | None
    wt_pending_streams: int | None
    wt_pending_bytes: int | str | None
    wt_pending_datagrams: int | None
    wt_pending_datagram_bytes: int | str | None
    wt_pending_timeout: float | str | None
    wt_capsule_skip_max: int | str | None
    datagrams_in: int | None
    datagram_bytes_in: int | str | None
    datagrams_out: int | None
    datagram_bytes_out: int | str | None
    send_buffer: int | str | None
    send_buffer_low: int | str | None
    conn_send_buffer: int | str | None
    session_send_buffer: int | str | None
    ring_slots: int | None
    udp_buffer: int | str | None
    backlog: int | None
    uds_permissions: str | None
    uds_user: str | None
    uds_group: str | None
    reuse_port: bool | None
    steering: bool | None
    gso: bool | None
    gro: bool | None
    secret: str | None
    server_header: bool | None
    date_header: bool | None
    header: str | Iterable[str] | None
