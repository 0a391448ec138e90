// session.test.mjs: one Chromium, one server; every behaviour of a session that a page can see.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Server, browse, open, until } from "./lib.mjs";

let server;
let browser;
let page;
const run = (work, argument) => page.evaluate(work, argument);

before(async () => {
  server = await Server.start("tests.browser.app:app");
  browser = await browse();
  page = await open(browser, server);
});

after(async () => {
  await browser?.close();
  await server?.close();
});

test("ready and datagram echo", async () => {
  const result = await run(async () => {
    const transport = await connect("/echo");
    const writer = transport.datagrams.writable.getWriter();
    const reader = transport.datagrams.readable.getReader();
    await writer.write(bytes("fresh"));
    const { value } = await reader.read();
    const size = transport.datagrams.maxDatagramSize;
    transport.close();
    return { echo: text(value), size };
  });
  assert.equal(result.echo, "fresh");
  assert.ok(result.size >= 1000, `maxDatagramSize ${result.size}`);
});

test("a bidirectional stream echoes, ends with FIN, and is empty when nothing was sent", async () => {
  const result = await run(async () => {
    const transport = await connect("/echo");
    const answers = [];
    for (const sent of ["one stream", ""]) {
      const stream = await transport.createBidirectionalStream();
      writeAll(stream.writable, bytes(sent));
      answers.push(text(await readAll(stream.readable)));
    }
    transport.close();
    return answers;
  });
  assert.deepEqual(result, ["one stream", ""]);
});

test("a unidirectional stream each way", async () => {
  const result = await run(async () => {
    const transport = await connect("/echo");
    await writeAll(await transport.createUnidirectionalStream(), bytes("one way"));
    const { value: stream } = await transport.incomingUnidirectionalStreams.getReader().read();
    const answer = text(await readAll(stream));
    transport.close();
    return answer;
  });
  assert.equal(result, "one way");
});

test("the server opens a bidirectional stream and both sides use it", async () => {
  const result = await run(async () => {
    const transport = await connect("/server_bidi");
    const { value: stream } = await transport.incomingBidirectionalStreams.getReader().read();
    const reader = stream.readable.getReader();
    const { value: greeting } = await reader.read();
    reader.releaseLock();
    await writeAll(stream.writable, bytes("thanks"));
    const answer = text(await readAll(stream.readable));
    transport.close();
    return { greeting: text(greeting), answer };
  });
  assert.deepEqual(result, { greeting: "hello", answer: "got thanks" });
  const { seen } = await server.report();
  assert.equal(seen.opened.tag, "greeting");
  assert.equal(seen.opened.bidirectional, true);
  assert.equal(seen.opened.stream_id & 3, 1);
});

test("100 parallel bidirectional streams", async () => {
  const right = await run(async () => {
    const transport = await connect("/echo");
    const results = await Promise.all(Array.from({ length: 100 }, async (_, number) => {
      const stream = await transport.createBidirectionalStream();
      const sent = `${number} `.repeat(500);
      writeAll(stream.writable, bytes(sent));
      return text(await readAll(stream.readable)) === sent;
    }));
    transport.close();
    return results.filter(Boolean).length;
  });
  assert.equal(right, 100);
});

test("300 unidirectional streams from the server, past the browser's limit of 103", async () => {
  const numbers = await run(async () => {
    const transport = await connect("/many?n=300");
    const streams = transport.incomingUnidirectionalStreams.getReader();
    const found = [];
    while (found.length < 300) {
      const { value: stream } = await streams.read();
      found.push(Number(text(await readAll(stream))));
    }
    transport.close();
    return found;
  });
  assert.deepEqual(numbers.sort((a, b) => a - b), Array.from({ length: 300 }, (_, i) => i));
});

test("close from the page reaches the application with code and reason", async () => {
  await run(async () => {
    const transport = await connect("/echo");
    transport.close({ closeCode: 4321, reason: "page is done: gr\u00fc\u00dfe" });
    await transport.closed;
  });
  const { seen } = await until(() => server.report(), ({ seen }) => seen.disconnect?.code === 4321,
    "disconnect with 4321");
  assert.deepEqual(seen.disconnect, { code: 4321, reason: "page is done: gr\u00fc\u00dfe", clean: true });
});

for (const [code, reason] of [[0, ""], [1234, "server is done"], [2 ** 32 - 1, "x".repeat(1024)]]) {
  test(`close from the application reaches the page: ${code}, ${reason.length} bytes`, async () => {
    const info = await run(async (path) => {
      const { closeCode, reason } = await (await connect(path)).closed;
      return { closeCode, reason };
    }, `/close?code=${code}&reason=${encodeURIComponent(reason)}`);
    assert.deepEqual(info, { closeCode: code, reason });
    const { seen } = await until(() => server.report(), ({ seen }) => seen.close?.code === code,
      "the application's own disconnect");
    assert.deepEqual(seen.close, { type: "webtransport.disconnect", code, reason, clean: true });
  });
}

test("reset and stop codes from the application", async () => {
  const codes = await run(async () => {
    const found = {};
    for (const [what, code] of [["reset", 30], ["stop", 255]]) {
      const transport = await connect(`/reset?${what}=${code}`);
      const stream = await transport.createBidirectionalStream();
      const writer = stream.writable.getWriter();
      writer.write(bytes("x")).catch(() => {});
      const ending = what === "reset" ? stream.readable.getReader().read() : writer.closed;
      const error = await ending.catch((failure) => failure);
      found[what] = [error.source, error.streamErrorCode];
      transport.close();
    }
    return found;
  });
  assert.deepEqual(codes, { reset: ["stream", 30], stop: ["stream", 255] });
});

test("reset and stop codes from the page", async () => {
  await run(async () => {
    const transport = await connect("/reset?none=1");
    const stream = await transport.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    await writer.write(bytes("x"));
    await writer.abort(new WebTransportError({ message: "away", streamErrorCode: 29 }));
    await stream.readable.cancel(new WebTransportError({ message: "enough", streamErrorCode: 200 }));
    window.kept = transport;
  });
  const { seen } = await until(() => server.report(), ({ seen }) => seen.reset?.length === 2,
    "reset and stop_sending events");
  const events = seen.reset.sort((a, b) => a.code - b.code);
  assert.deepEqual(events, [
    { type: "webtransport.stream.reset", code: 29 },
    { type: "webtransport.stream.stop_sending", code: 200 },
  ]);
  await run(() => window.kept.close());
});

test("subprotocols: the application chooses one of those offered", async () => {
  const chosen = await run(async () => {
    const transport = await connect("/subprotocol", { protocols: ["mail.v1", "chat.v2", "chat.v1"] });
    const { protocol } = transport;
    transport.close();
    return protocol;
  });
  assert.equal(chosen, "chat.v2");
  const { seen } = await server.report();
  assert.deepEqual(seen.offered, ["mail.v1", "chat.v2", "chat.v1"]);
});

test("after a drain the session goes on", async () => {
  const echo = await run(async () => {
    const transport = await connect("/drain");
    const reader = transport.datagrams.readable.getReader();
    await transport.datagrams.writable.getWriter().write(bytes("still here"));
    const { value } = await reader.read();
    transport.close();
    return text(value);
  });
  assert.equal(echo, "still here");
});

test("a refused session rejects ready; the page goes on", async () => {
  for (const path of ["/reject?status=429", "/nowhere"]) {
    const fresh = await open(browser, server); // Chromium throttles a page's failed attempts
    const error = await fresh.evaluate((where) => connect(where).catch((failure) => failure.message), path);
    assert.match(error, /Opening handshake failed/);
    await fresh.closeAll();
  }
});

test("an application that crashes ends its session uncleanly, with a traceback in the log", async () => {
  const error = await run(async () => {
    const transport = await connect("/crash");
    await transport.datagrams.writable.getWriter().write(bytes("now"));
    return transport.closed.then(() => "clean", (failure) => failure.message);
  });
  assert.match(error, /Connection lost/);
  await server.line(/RuntimeError: the application crashed on purpose/);
});
