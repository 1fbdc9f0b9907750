"use strict";

/* The history of the page, decoded, and how people read it. */
const lab = {};

(() => {
  const raw = JSON.parse(document.getElementById("data").textContent);
  const count = raw.invoke.length;
  const invoke = new Float64Array(count);
  const end = new Float64Array(count); // when the client heard or gave up; its call if never
  let now = 0;
  for (let i = 0; i < count; i++) {
    now += raw.invoke[i];
    invoke[i] = now;
    end[i] = now + Math.max(0, raw.duration[i]);
  }
  const span = Math.max(raw.end, 1);
  const bad = new Uint8Array(count);
  for (const i of raw.failing) bad[i] = 1;
  const faults = raw.faults.map((fault) => ({ ...fault, until: fault.end ?? span }));

  /** The first place in a sorted list whose entry is at least `x`. */
  function firstAtLeast(list, x) {
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (list[middle] < x) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Nanoseconds in the unit that fits. */
  function time(ns) {
    const steps = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]];
    for (const [size, unit] of steps) {
      if (Math.abs(ns) >= size) return `${+(ns / size).toPrecision(4)} ${unit}`;
    }
    return `${Math.round(ns)} ns`;
  }

  /** A moment, in seconds, as exact as `step` between marks needs. */
  function moment(ns, step) {
    const digits = Math.max(0, Math.min(9, 9 - Math.floor(Math.log10(step) + 1e-9)));
    return `${(ns / 1e9).toFixed(digits)} s`;
  }

  /** A round distance of marks, so that about `wanted` fit in `range`. */
  function step(range, wanted) {
    const rough = Math.max(range / wanted, 1e-9);
    const power = 10 ** Math.floor(Math.log10(rough));
    const times = [1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10;
    return times * power;
  }

  const shown = (place) => (place === 0 ? "absent" : raw.texts[place]);

  /** What an operation did, in a few words. */
  function title(i) {
    const name = raw.functions[raw.function[i]];
    const key = raw.texts[raw.key[i]];
    const value = shown(raw.value[i]);
    if (name === "read") return raw.outcome[i] === 0 ? `read ${key} → ${value}` : `read ${key}`;
    if (name === "cas") return `cas ${key} ${shown(raw.expected[i])} → ${value}`;
    if (name === "delete") return `delete ${key}`;
    return `${name} ${key} ${value}`.replace(/\s+/, " ");
  }

  /** All that is known of an operation, a line each. */
  function about(i) {
    const lines = [title(i)];
    const outcome = ["succeeded", "failed", "unknown"][raw.outcome[i]];
    const took = raw.duration[i] < 0 ? "never returned" : `took ${time(raw.duration[i])}`;
    lines.push(`${outcome}, ${took}${bad[i] ? ", part of what failed" : ""}`);
    const node = raw.node[i] === 0 ? "" : `, node ${raw.texts[raw.node[i]]}`;
    lines.push(`process ${raw.process[i]}${node}`);
    lines.push(`from ${(invoke[i] / 1e6).toFixed(6)} ms` +
      (raw.duration[i] < 0 ? "" : ` to ${(end[i] / 1e6).toFixed(6)} ms`));
    if (raw.revision[i] >= 0) lines.push(`revision ${raw.revision[i]}`);
    if (raw.at_revision[i] >= 0) lines.push(`looked at revision ${raw.at_revision[i]}`);
    const name = raw.functions[raw.function[i]];
    if (name !== "cas" && raw.expected[i] !== 0) lines.push(`expected ${shown(raw.expected[i])}`);
    if (raw.level[i] !== 0) lines.push(`level ${raw.texts[raw.level[i]]}`);
    if (raw.error[i] !== 0) lines.push(`error: ${raw.texts[raw.error[i]]}`);
    for (const fault of faults) {
      if (fault.begin <= end[i] && fault.until >= invoke[i]) {
        lines.push(`meanwhile: ${fault.what} ${fault.nodes}`);
      }
    }
    return lines.join("\n");
  }

  /** The colours of the page as they are now. */
  function colours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["ground", "card", "line", "text", "quiet", "ok", "fail", "info", "bad", "shade",
      "p50", "p99", "max", "accent"];
    return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  /** Makes a canvas as sharp as the screen; returns what to draw on, in units of the page. */
  function prepare(canvas, height) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(200, canvas.parentElement.clientWidth);
    canvas.style.height = `${height}px`;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return { pen, width, height };
  }

  Object.assign(lab, { raw, count, invoke, end, span, bad, faults, firstAtLeast, time, moment, step,
    title, about, colours, prepare, font: '12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif' });
})();
