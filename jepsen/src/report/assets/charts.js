"use strict";

/* Latency and rate of the whole run, with the faults and the window of the timeline. */
(() => {
  const { raw, count, invoke, span, faults } = lab;
  const LEFT = 64;
  const BOTTOM = 20;
  const TOP = 8;
  const HEIGHT = 170;
  const BUCKETS = Math.max(10, Math.min(240, Math.floor(count / 4)));
  const size = span / BUCKETS;

  const buckets = Array.from({ length: BUCKETS }, () => ({ counts: [0, 0, 0], took: [] }));
  for (let i = 0; i < count; i++) {
    const bucket = buckets[Math.min(BUCKETS - 1, Math.floor(invoke[i] / size))];
    bucket.counts[raw.outcome[i]] += 1;
    if (raw.outcome[i] !== 2 && raw.duration[i] >= 0) bucket.took.push(raw.duration[i]);
  }
  for (const bucket of buckets) {
    const sorted = Float64Array.from(bucket.took).sort();
    const rank = (share) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
    bucket.took = sorted.length === 0 ? null : { p50: rank(0.5), p99: rank(0.99), max: rank(1) };
  }

  class Chart {
    /** `scale` has `least`, `most`, `marks`, and `share` of the height for a value. */
    constructor(canvas, scale, lines, describe) {
      Object.assign(this, { canvas, scale, lines, describe, window: [0, span] });
    }

    x(time) {
      return LEFT + (time / span) * (this.width - LEFT - 8);
    }

    time(x) {
      return ((x - LEFT) / (this.width - LEFT - 8)) * span;
    }

    y(value) {
      return TOP + (1 - this.scale.share(value)) * (HEIGHT - TOP - BOTTOM);
    }

    paint() {
      const { pen, width } = lab.prepare(this.canvas, HEIGHT);
      this.width = width;
      const colours = lab.colours();
      pen.font = lab.font;
      pen.textBaseline = "middle";
      this.paintFaults(pen, colours);
      for (const mark of this.scale.marks) {
        pen.fillStyle = colours.line;
        pen.fillRect(LEFT, Math.round(this.y(mark)), width - LEFT, 1);
        pen.fillStyle = colours.quiet;
        pen.textAlign = "right";
        pen.fillText(this.scale.name(mark), LEFT - 8, this.y(mark));
      }
      pen.textAlign = "left";
      const step = lab.step(span, Math.max(2, width / 130));
      for (let k = 0; k * step <= span; k++) {
        pen.fillText(lab.moment(k * step, step), this.x(k * step), HEIGHT - BOTTOM / 2);
      }
      for (const line of this.lines) this.paintLine(pen, line, colours[line.colour]);
      this.paintWindow(pen, colours);
    }

    paintFaults(pen, colours) {
      pen.fillStyle = colours.shade;
      pen.globalAlpha = 0.13;
      for (const fault of faults) {
        const left = this.x(fault.begin);
        pen.fillRect(left, TOP, Math.max(this.x(fault.until) - left, 1), HEIGHT - TOP - BOTTOM);
      }
      pen.globalAlpha = 1;
    }

    paintLine(pen, line, colour) {
      pen.strokeStyle = colour;
      pen.fillStyle = colour;
      pen.lineWidth = 1.6;
      pen.lineJoin = "round";
      pen.beginPath();
      let joined = false;
      buckets.forEach((bucket, place) => {
        const value = line.value(bucket);
        if (value === null) {
          joined = false;
          return;
        }
        const [x, y] = [this.x((place + 0.5) * size), this.y(value)];
        if (joined) pen.lineTo(x, y);
        else pen.moveTo(x, y);
        joined = true;
        if (line.dots) pen.fillRect(x - 1, y - 1, 2, 2);
      });
      pen.stroke();
    }

    paintWindow(pen, colours) {
      const [from, to] = this.window;
      if (to - from >= span) return;
      const left = this.x(Math.max(0, from));
      const wide = Math.max(this.x(Math.min(span, to)) - left, 2);
      pen.strokeStyle = colours.accent;
      pen.lineWidth = 1.5;
      pen.strokeRect(left, TOP - 4, wide, HEIGHT - TOP - BOTTOM + 6);
    }

    /** What the bucket at a point says; empty outside. */
    about(x) {
      const place = Math.floor(this.time(x) / size);
      if (place < 0 || place >= BUCKETS) return "";
      const begin = place * size;
      const during = faults.filter((fault) => fault.begin <= begin + size && fault.until >= begin);
      const lines = [`${lab.moment(begin, size)} to ${lab.moment(begin + size, size)}`];
      lines.push(this.describe(buckets[place]));
      for (const fault of during) lines.push(`${fault.what} ${fault.nodes}`);
      return lines.join("\n");
    }
  }

  function latencyScale() {
    const all = buckets.filter((bucket) => bucket.took).map((bucket) => bucket.took);
    const least = Math.log10(Math.max(1, Math.min(...all.map((took) => took.p50), 1e9)));
    const most = Math.log10(Math.max(10, ...all.map((took) => took.max)));
    const [low, high] = [Math.floor(least), Math.max(Math.ceil(most), Math.floor(least) + 1)];
    const marks = Array.from({ length: high - low + 1 }, (_, k) => 10 ** (low + k));
    const share = (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low);
    return { marks, share, name: (mark) => lab.time(mark) };
  }

  function rateScale() {
    const most = Math.max(1, ...buckets.map((bucket) => Math.max(...bucket.counts))) / (size / 1e9);
    const step = lab.step(most, 4);
    const top = Math.ceil(most / step) * step;
    const marks = [];
    for (let mark = 0; mark <= top * 1.0001; mark += step) marks.push(mark);
    return { marks, share: (value) => value / top, name: (mark) => `${+mark.toPrecision(6)}/s` };
  }

  lab.charts = (latency, rate) => {
    const took = (name) => (bucket) => (bucket.took ? bucket.took[name] : null);
    const second = (outcome) => (bucket) => bucket.counts[outcome] / (size / 1e9);
    return [
      new Chart(latency, latencyScale(), [
        { colour: "max", value: took("max"), dots: true },
        { colour: "p99", value: took("p99"), dots: true },
        { colour: "p50", value: took("p50"), dots: true },
      ], ({ took: all }) => (all
        ? `half within ${lab.time(all.p50)}\n99 of 100 within ${lab.time(all.p99)}\nslowest ${lab.time(all.max)}`
        : "nothing returned")),
      new Chart(rate, rateScale(), [
        { colour: "fail", value: second(1) },
        { colour: "info", value: second(2) },
        { colour: "ok", value: second(0) },
      ], ({ counts }) => `${counts[0]} succeeded, ${counts[1]} failed, ${counts[2]} unknown`),
    ];
  };
})();
