"""Echoes datagrams and bidirectional streams: pronghorn --dev --app-dir examples echo:app"""


async def app(scope, receive, send):
    if scope["type"] != "webtransport":
        raise NotImplementedError(scope["type"])
    await receive()  # webtransport.connect
    await send({"type": "webtransport.accept"})
    while True:
        event = await receive()
        if event["type"] == "webtransport.disconnect":
            break
        if event["type"] == "webtransport.datagram.receive":
            await send({"type": "webtransport.datagram.send", "data": event["data"]})
        elif event["type"] == "webtransport.stream.receive" and not event["stream_id"] & 2:
            echo = {key: event[key] for key in ("stream_id", "data", "end_stream")}
            await send({"type": "webtransport.stream.send", **echo})
