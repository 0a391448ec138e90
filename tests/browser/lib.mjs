// lib.mjs: starts servers and browsers for the tests, and waits for what they say instead of sleeping.
//
// A server is a real process on ports that the system chose; a browser is Debian's Chromium with a fresh
// profile. Everything started here is ended by close(), and a server that does not end cleanly, or says
// that it leaks, fails the test.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const PYTHON = process.env.PYTHON ?? path.join(ROOT, ".venv/bin/python");
const DEADLINE = 60_000; // ms: an answer that has not come by then will not come

/** A promise that fails with `what` when it takes too long. */
export function within(promise, what, ms = DEADLINE) {
  let timer;
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`timed out: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A certificate for localhost, and what --ignore-certificate-errors-spki-list wants of it. */
export function certificate(folder) {
  const cert = path.join(folder, "cert.pem"), key = path.join(folder, "key.pem");
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
    "-nodes", "-keyout", key, "-out", cert, "-days", "10", "-subj", "/CN=localhost",
    "-addext", "subjectAltName=DNS:localhost"], { stdio: "ignore" });
  const pem = execFileSync("openssl", ["x509", "-in", cert, "-pubkey", "-noout"]);
  const der = execFileSync("openssl", ["pkey", "-pubin", "-outform", "der"], { input: pem });
  const hash = execFileSync("openssl", ["dgst", "-sha256", "-binary"], { input: der });
  return { cert, key, spki: hash.toString("base64") };
}

/** A child process whose lines can be waited for. */
export class Process {
  constructor(command, args, options = {}) {
    this.output = "";
    this.waiting = [];
    this.child = spawn(command, args, {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
      ...options,
      env: { ...process.env, PYTHONUNBUFFERED: "1", PRONGHORN_CHECK_LEAKS: "1", ...options.env },
    });
    this.exited = once(this.child, "exit");
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text) => {
        this.output += text;
        this.waiting = this.waiting.filter((look) => !look());
      });
    }
  }

  /** The first match of `pattern` in all output, now or later. */
  line(pattern) {
    const found = new Promise((resolve, reject) => {
      const look = () => {
        const match = this.output.match(pattern);
        if (match) resolve(match);
        return match !== null;
      };
      if (!look()) this.waiting.push(look);
      this.exited.then(() => reject(new Error(`ended before ${pattern}:\n${this.output}`)));
    });
    found.catch(() => {});
    return within(found, `${pattern} in\n${this.output}`);
  }

  /** Ends it and returns the exit code. */
  async stop(signal = "SIGTERM") {
    if (this.child.exitCode === null) this.child.kill(signal);
    const [code] = await within(this.exited, `exit after ${signal}:\n${this.output}`);
    return code;
  }
}

/** `pronghorn TARGET --dev` on free ports. */
export class Server extends Process {
  static async start(target, args = [], env = {}) {
    const certs = mkdtempSync(path.join(os.tmpdir(), "pronghorn-certs-"));
    const server = new Server(
      PYTHON,
      ["-m", "pronghorn", target, "--dev", "--cert-dir", certs, "--bind", "127.0.0.1:0",
        "--quic-bind", "127.0.0.1:0", "--log-level", "info", ...args],
      { env },
    );
    server.certs = certs;
    try {
      server.http = Number((await server.line(/listening kind=tcp address=\S*:(\d+)/))[1]);
      server.quic = Number((await server.line(/listening kind=quic address=\S*:(\d+)/))[1]);
      server.page = `http://127.0.0.1:${server.http}`;
    } catch (error) {
      await server.stop("SIGKILL");
      throw error;
    }
    return server;
  }

  async report(query = "") {
    return (await fetch(`${this.page}/report${query}`)).json();
  }

  async close() {
    const code = await this.stop();
    rmSync(this.certs, { recursive: true });
    if (code !== 0) throw new Error(`the server ended with ${code}:\n${this.output}`);
  }
}

/** Chromium as a person has it: no flags that change WebTransport, unless `flags` names some. */
export async function browse(flags = []) {
  return chromium.launch({
    executablePath: "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--enable-quic", ...flags],
    ignoreDefaultArgs: ["--disable-quic"],
  });
}

/** A page of the server in a fresh profile, with `connect(path, options)` defined in it. */
export async function open(browser, server) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(server.page);
  const { sha256, port } = await server.report();
  await page.evaluate(({ sha256, port }) => {
    const value = new Uint8Array(sha256.match(/../g).map((pair) => parseInt(pair, 16)));
    window.connect = async (path, options = {}) => {
      const transport = new WebTransport(`https://127.0.0.1:${port}${path}`, {
        serverCertificateHashes: [{ algorithm: "sha-256", value }],
        ...options,
      });
      transport.closed.catch(() => {});
      await transport.ready;
      return transport;
    };
    window.readAll = async (readable) => {
      const parts = [];
      const reader = readable.getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        parts.push(value);
      }
      return new Uint8Array(await new Blob(parts).arrayBuffer());
    };
    window.text = (bytes) => new TextDecoder().decode(bytes);
    window.bytes = (text) => new TextEncoder().encode(text);
    window.sha256 = async (data) =>
      [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))]
        .map((byte) => byte.toString(16).padStart(2, "0")).join("");
    window.writeAll = async (writable, data) => {
      const writer = writable.getWriter();
      await writer.write(data);
      await writer.close();
    };
    /** Bytes that repeat nowhere within a window. */
    window.bulk = (length) => {
      const words = new Uint32Array(length / 4);
      let x = 1;
      for (let i = 0; i < words.length; i++) {
        x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
        words[i] = x;
      }
      return new Uint8Array(words.buffer);
    };
  }, { sha256, port });
  page.closeAll = () => context.close();
  return page;
}

/** Repeats a question to the server until the answer satisfies; state is polled, never guessed. */
export async function until(ask, satisfied, what) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const answer = await ask();
    if (satisfied(answer)) return answer;
    if (Date.now() > end) throw new Error(`timed out: ${what}; last: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
