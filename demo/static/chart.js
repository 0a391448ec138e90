// chart.js: two small canvas charts without a library. Each keeps its own samples and is redrawn
// once per animation frame by the caller.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Fits the canvas to its box and the screen's pixels; returns context, width and height. */
function surface(canvas) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function grid(context, width, height, labels) {
  context.strokeStyle = colour("--line");
  context.fillStyle = colour("--soft");
  context.font = "11px system-ui, sans-serif";
  context.lineWidth = 1;
  labels.forEach((label, i) => {
    const y = Math.round((height - 1) * (i / (labels.length - 1))) + 0.5;
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(width, y);
    context.stroke();
    if (label) context.fillText(label, 2, i === 0 ? y + 12 : y - 3);
  });
}

/** Lines that move left with the time; gaps in the samples stay gaps. */
export class MovingChart {
  constructor(canvas, lines, seconds = 20) {
    this.canvas = canvas;
    this.lines = lines; // [{ key, colour }], values 0 to 1
    this.span = seconds * 1000;
    this.samples = [];
  }

  add(at, values) {
    this.samples.push({ at, ...values });
    while (this.samples.length && this.samples[0].at < at - this.span) this.samples.shift();
  }

  draw(now) {
    const { context, width, height } = surface(this.canvas);
    grid(context, width, height, ["100 %", "", "50 %", "", "0"]);
    for (const line of this.lines) {
      context.strokeStyle = colour(line.colour);
      context.lineWidth = 2;
      context.lineJoin = "round";
      context.beginPath();
      let before = null;
      for (const sample of this.samples) {
        const x = width - ((now - sample.at) / this.span) * width;
        const y = height - 2 - Math.min(1, sample[line.key]) * (height - 4);
        if (before === null || sample.at - before > 250) context.moveTo(x, y);
        else context.lineTo(x, y);
        before = sample.at;
      }
      context.stroke();
    }
  }
}

/** Round-trip times as bars, with p50 and p99 as lines. */
export class RoundTrips {
  constructor(canvas, keep = 300) {
    this.canvas = canvas;
    this.keep = keep;
    this.values = []; // milliseconds, oldest first
  }

  add(milliseconds) {
    this.values.push(milliseconds);
    if (this.values.length > this.keep) this.values.shift();
  }

  quantile(q) {
    if (this.values.length === 0) return NaN;
    const sorted = [...this.values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  }

  draw() {
    const { context, width, height } = surface(this.canvas);
    const p50 = this.quantile(0.5);
    const p99 = this.quantile(0.99);
    const top = Math.max(1, 2 ** Math.ceil(Math.log2(Math.max(1, p99 || 1) * 1.2)));
    grid(context, width, height, [`${top} ms`, `${top / 2} ms`, "0"]);
    const step = width / this.keep;
    context.fillStyle = colour("--soft");
    this.values.forEach((value, i) => {
      const x = width - (this.values.length - i) * step;
      const h = Math.min(1, value / top) * (height - 4);
      context.fillRect(x, height - h, Math.max(1, step - 0.5), h);
    });
    for (const [value, name] of [[p50, "--mem"], [p99, "--cpu"]]) {
      if (!Number.isFinite(value)) continue;
      const y = height - Math.min(1, value / top) * (height - 4);
      context.strokeStyle = colour(name);
      context.lineWidth = 2;
      context.beginPath();
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.stroke();
    }
  }
}
