// app.js: connects, reads the streams and datagrams, and keeps the page's figures.
//
// One WebTransport session carries everything: figures as datagrams from the server, the page's own
// numbered datagrams and their echoes, the event log on a unidirectional stream, and pings on a
// bidirectional one. When the session is lost the page says why and tries again.

import { MovingChart, RoundTrips } from "./chart.js";

const $ = (id) => document.getElementById(id);
const show = (id, text) => { $(id).textContent = text; };
const encoder = new TextEncoder();
const decoder = new TextDecoder();

const PROBES_PER_SECOND = 20;
const PINGS_PER_SECOND = 10;
const LOST_AFTER = 1000; // ms without an echo; while Python is blocked the verdict waits longer
const LOG_LINES = 200;
const RETRY_FIRST = 1000; // ms, doubled up to RETRY_LAST
const RETRY_LAST = 15000;

const chart = new MovingChart($("chart"), [
  { key: "cpu", colour: "--cpu" },
  { key: "mem", colour: "--mem" },
  { key: "rps", colour: "--rps" },
]);
const trips = new RoundTrips($("rtt-chart"));

/** Everything counted since the session opened. */
class Tally {
  downNext = null; // number that the next figure should have
  downReceived = 0;
  downLost = 0;
  upSent = 0;
  upReceived = 0;
  upLost = 0;
  waiting = new Map(); // number of a probe -> when it was sent
  pings = new Map();
  logNext = 0;
  logInOrder = true;
  server = {};
}
let tally = new Tally();
let session = null; // the open WebTransport
let blocking = false;
let retryIn = RETRY_FIRST;

// --- words for the person ------------------------------------------------------------------------

function setState(state, text) {
  $("state").dataset.state = state;
  show("state-text", text);
  $("block").disabled = state !== "open" || blocking;
}

function trouble(title, text, advice) {
  show("trouble-title", title);
  show("trouble-text", text);
  $("trouble-advice").replaceChildren(...advice.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
  $("trouble").hidden = false;
}

function explainMissing() {
  setState("closed", "no WebTransport");
  if (!window.isSecureContext) {
    trouble("This page needs a secure context",
      `Browsers offer WebTransport only to https:// pages and to localhost; this page came from ${location.origin}.`,
      ["Open it as http://localhost:" + (location.port || 80) + " on the machine that runs the demo.",
       "From another machine: forward the page's TCP port and the UDP port, or serve it with a real certificate."]);
  } else {
    trouble("This browser has no WebTransport", navigator.userAgent,
      ["Chrome or Edge 97 and later, Firefox 114 and later, and Safari 26.4 and later have it.",
       "In Firefox, network.webtransport.enabled must be true in about:config."]);
  }
  $("retry").hidden = true;
}

/** `reached`: whether the server said where WebTransport is; `opened`: whether a session was open. */
function explainFailure(error, port, reached, opened) {
  const text = String(error?.message || error);
  if (!reached) {
    trouble("The server does not answer", `There is nothing at ${location.origin} any more (${text}).`,
      ["Start it again with make demo: this page comes back by itself."]);
  } else if (opened) {
    trouble("The connection ended", text,
      ["If the server was stopped, start it again with make demo: this page comes back by itself."]);
  } else {
    trouble("The WebTransport connection failed", text,
      [`The server should listen on UDP port ${port}.`,
       "A firewall, VPN or browser policy may block UDP or QUIC (Chrome: --disable-quic, policy QuicAllowed)."]);
  }
  $("retry").hidden = false;
}

// --- one session ---------------------------------------------------------------------------------

function onFigure(figure) {
  if (tally.downNext !== null && figure.n > tally.downNext) tally.downLost += figure.n - tally.downNext;
  if (tally.downNext !== null && figure.n < tally.downNext) tally.downLost -= 1; // late, not lost
  tally.downNext = Math.max(tally.downNext ?? 0, figure.n + 1);
  tally.downReceived += 1;
  tally.server = figure.server;
  chart.add(performance.now(), { cpu: figure.cpu, mem: figure.mem, rps: figure.rps / 50 });
  show("cpu", `${(figure.cpu * 100).toFixed(0)} %`);
  show("mem", `${(figure.mem * 100).toFixed(1)} %`);
  show("rps", figure.rps);
  show("load", figure.load.toFixed(2));
  show("viewers", figure.viewers);
}

function onEcho(number) {
  const at = tally.waiting.get(number);
  if (at === "lost") tally.upLost -= 1; // it was only late
  if (at === undefined) return;
  tally.waiting.delete(number);
  tally.upReceived += 1;
}

async function readDatagrams(transport) {
  const reader = transport.datagrams.readable.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const message = JSON.parse(decoder.decode(value));
    if ("probe" in message) onEcho(message.probe);
    else onFigure(message);
  }
}

async function sendProbes(transport) {
  const writable = transport.datagrams.writable ?? transport.datagrams.createWritable(); // Safari: the latter
  const writer = writable.getWriter();
  while (transport === session) {
    const number = tally.upSent++;
    tally.waiting.set(number, performance.now());
    await writer.write(encoder.encode(JSON.stringify({ probe: number })));
    await pause(1000 / PROBES_PER_SECOND);
  }
}

/** Lines of text from a stream of bytes. */
async function* lines(readable) {
  const reader = readable.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

async function readLog(transport) {
  const streams = transport.incomingUnidirectionalStreams.getReader();
  const { value: stream, done } = await streams.read();
  if (done) return;
  for await (const line of lines(stream)) {
    const entry = JSON.parse(line);
    if (entry.n !== tally.logNext) tally.logInOrder = false;
    tally.logNext = entry.n + 1;
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = new Date(entry.at * 1000).toLocaleTimeString();
    item.append(time, entry.text);
    $("log").append(item);
    while ($("log").children.length > LOG_LINES) $("log").firstChild.remove();
    $("log").scrollTop = $("log").scrollHeight;
    show("order", `${tally.logNext} lines, ${tally.logInOrder ? "every one in order." : "ORDER BROKEN."}`);
  }
}

async function ping(transport) {
  const stream = await transport.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  const reading = (async () => {
    for await (const line of lines(stream.readable)) {
      const sent = tally.pings.get(Number(line));
      if (sent === undefined) continue;
      tally.pings.delete(Number(line));
      const trip = performance.now() - sent;
      trips.add(trip);
      show("rtt-now", milliseconds(trip));
    }
  })();
  reading.catch(() => {}); // when writing fails first, that is the reason which counts
  for (let number = 0; transport === session; number++) {
    tally.pings.set(number, performance.now());
    await writer.write(encoder.encode(`${number}\n`));
    await pause(1000 / PINGS_PER_SECOND);
  }
  await reading;
}

// --- block ---------------------------------------------------------------------------------------

function verdictLine(text, kind = "") {
  const item = document.createElement("li");
  item.textContent = text;
  item.className = kind;
  $("verdict").append(item);
  return item;
}

async function blockPython() {
  blocking = true;
  $("block").disabled = true;
  $("verdict").replaceChildren();
  const before = { ...tally.server };
  const upSent = tally.upSent;
  const started = performance.now();
  const transport = session;
  const answer = fetch("/block", { method: "POST" });
  const waiting = verdictLine("Python computes; nothing from the handler for two seconds");
  try {
    await answer;
  } catch {
    waiting.remove();
    verdictLine("the server went away meanwhile", "bad");
    blocking = false;
    return;
  }
  const took = (performance.now() - started) / 1000;
  await pause(1200); // what was queued arrives, and figures from after the block
  waiting.remove();
  const after = tally.server;
  const sent = tally.upSent - upSent;
  const missing = [...tally.waiting.entries()]
    .filter(([number, at]) => number >= upSent && at !== "lost" && performance.now() - at > LOST_AFTER).length;
  const pings = [...tally.pings.values()].filter((at) => performance.now() - at > LOST_AFTER).length;
  const packets = after.packets_out - before.packets_out;
  const wire = after.datagrams_lost - before.datagrams_lost;
  const dropped = after.datagrams_in_dropped - before.datagrams_in_dropped;

  verdictLine(`the handler was gone for ${took.toFixed(1)} s`, "good");
  verdictLine(transport === session ? "the connection stayed open" : "the connection was lost",
    transport === session ? "good" : "bad");
  verdictLine(`${sent} datagrams sent meanwhile, ${missing} unanswered, ${dropped} dropped by the bounded queue`,
    missing <= dropped + wire ? "good" : "bad");
  verdictLine(`${packets} packets from the server in that time, ${wire} datagrams lost on the wire: no storm`,
    wire <= sent / 10 ? "good" : "bad");
  verdictLine(pings === 0 ? "every ping on the stream came back, in order" : `${pings} pings are still missing`,
    pings === 0 ? "good" : "bad");
  verdictLine(tally.logInOrder ? `event log: ${tally.logNext} lines, none missing` : "event log: a line is missing",
    tally.logInOrder ? "good" : "bad");
  blocking = false;
  $("block").disabled = session === null;
}

// --- frame ---------------------------------------------------------------------------------------

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const milliseconds = (value) =>
  Number.isFinite(value) ? `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms` : "\u2013";

/** Counts probes without an echo; late echoes take it back. */
function countLost() {
  if (blocking) return;
  const now = performance.now();
  for (const [number, at] of tally.waiting) {
    if (at === "lost") {
      if (number < tally.upSent - 2000) tally.waiting.delete(number);
    } else if (now - at > LOST_AFTER) {
      tally.waiting.set(number, "lost");
      tally.upLost += 1;
    }
  }
}

function drawAll(now) {
  chart.draw(now);
  trips.draw();
  countLost();
  show("rtt-p50", milliseconds(trips.quantile(0.5)));
  show("rtt-p99", milliseconds(trips.quantile(0.99)));
  show("down-sent", tally.downNext ?? 0);
  show("down-received", tally.downReceived);
  show("down-lost", tally.downLost);
  show("up-sent", tally.upSent);
  show("up-received", tally.upReceived);
  show("up-lost", tally.upLost);
  const { server } = tally;
  if (server.packets_out !== undefined) {
    show("packets-out", server.packets_out.toLocaleString());
    show("packets-in", server.packets_in.toLocaleString());
    show("wire-lost", server.datagrams_lost);
    show("queue-dropped", server.datagrams_out_dropped + server.datagrams_in_dropped);
  }
  requestAnimationFrame(drawAll);
}

async function connect(settings) {
  const url = `https://${location.hostname}:${settings.port}${settings.path}`;
  show("address", `${url} (UDP)`);
  setState("connecting", "connecting");
  const options = {};
  if (settings.sha256) {
    const bytes = settings.sha256.match(/../g).map((pair) => parseInt(pair, 16));
    options.serverCertificateHashes = [{ algorithm: "sha-256", value: new Uint8Array(bytes) }];
  }
  const transport = new WebTransport(url, options);
  transport.closed.catch(() => {}); // the reason is read below
  await transport.ready;
  session = transport;
  tally = new Tally();
  $("log").replaceChildren();
  $("trouble").hidden = true;
  retryIn = RETRY_FIRST;
  setState("open", "open over QUIC");
  for (const work of [readDatagrams, sendProbes, readLog, ping]) {
    work(transport).catch((error) => {
      if (transport === session) console.warn(`${work.name}: ${error.message}`);
    });
  }
  const info = await transport.closed;
  throw new Error(`The server ended the session${info?.reason ? `: ${info.reason}` : "."}`);
}

async function main() {
  requestAnimationFrame(drawAll);
  if (typeof WebTransport === "undefined") {
    explainMissing();
    return;
  }
  $("block").addEventListener("click", blockPython);
  // A closed tab says goodbye; otherwise the server would learn it from its idle timeout.
  window.addEventListener("pagehide", () => session?.close());
  for (;;) {
    let settings = null;
    try {
      settings = await (await fetch("/settings.json")).json();
      show("version", settings.version);
      show("http-version", settings.http_version);
      await connect(settings);
    } catch (error) {
      const opened = session !== null;
      session = null;
      setState("closed", "not connected");
      explainFailure(error, settings?.port, settings !== null, opened);
    }
    await Promise.race([pause(retryIn), new Promise((resolve) => { $("retry").onclick = resolve; })]);
    retryIn = Math.min(retryIn * 2, RETRY_LAST);
  }
}

main();
