"use strict";

/* The timeline: a lane a client or a node, a bar an operation. Only what is in the window is looked at. */
(() => {
  const { raw, count, invoke, end, span, bad, faults, firstAtLeast } = lab;
  const LEFT = 96; // room for the names of lanes
  const ROW = 18; // height of a row of bars
  const GAP = 6; // between lanes
  const AXIS = 24; // height of the axis
  const FAULT_ROW = 16;
  const FAULT_ROWS_MAX = 5;
  const HEIGHT_MAX = 560;
  const NARROWEST = 200; // nanoseconds in the narrowest window

  /** Groups operations into lanes, and each lane into rows in which no two overlap. */
  function lanesBy(kind) {
    const lanes = kind === "node" ? lanesOfNodes() : lanesOfClients();
    let y = 0;
    for (const lane of lanes) {
      lane.y = y;
      lane.rows = lane.rows.map((list, place) => row(list, y + place * ROW));
      y += lane.rows.length * ROW + GAP;
    }
    return { lanes, rows: lanes.flatMap((lane) => lane.rows), height: y };
  }

  /** A process that ends with an unknown outcome is followed by another one in the same lane. */
  function lanesOfClients() {
    const processes = new Map();
    for (let i = 0; i < count; i++) {
      const list = processes.get(raw.process[i]);
      if (list) list.push(i);
      else processes.set(raw.process[i], [i]);
    }
    const lanes = [];
    for (const list of processes.values()) {
      const begin = invoke[list[0]];
      let lane = lanes.find((other) => other.until <= begin);
      if (!lane) {
        lane = { name: `client ${lanes.length + 1}`, until: 0, rows: [[]] };
        lanes.push(lane);
      }
      for (const i of list) lane.rows[0].push(i);
      lane.until = end[list[list.length - 1]];
    }
    return lanes;
  }

  function lanesOfNodes() {
    const nodes = new Map();
    for (let i = 0; i < count; i++) {
      const name = raw.node[i] === 0 ? "no node" : raw.texts[raw.node[i]];
      let lane = nodes.get(name);
      if (!lane) nodes.set(name, (lane = { name, rows: [], until: [] }));
      let place = lane.until.findIndex((until) => until <= invoke[i]);
      if (place < 0) {
        place = lane.rows.length;
        lane.rows.push([]);
      }
      lane.rows[place].push(i);
      lane.until[place] = end[i];
    }
    return [...nodes.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** A row with what finding and counting in a window needs. */
  function row(list, y) {
    const begins = Float64Array.from(list, (i) => invoke[i]);
    const sums = [0, 1, 2].map(() => new Uint32Array(list.length + 1));
    list.forEach((i, place) => {
      for (const outcome of [0, 1, 2]) {
        sums[outcome][place + 1] = sums[outcome][place] + (raw.outcome[i] === outcome ? 1 : 0);
      }
    });
    return { list, begins, sums, y, bad: list.filter((i) => bad[i]) };
  }

  /** Faults in rows in which no two overlap; what does not fit shares the last row. */
  function faultRows() {
    const until = [];
    for (const fault of faults) {
      let place = until.findIndex((time) => time <= fault.begin);
      if (place < 0) place = Math.min(until.length, FAULT_ROWS_MAX - 1);
      until[place] = Math.max(until[place] ?? 0, fault.until);
      fault.row = place;
    }
    return until.length;
  }

  class Timeline {
    constructor(canvas) {
      this.canvas = canvas;
      this.top = AXIS + faultRows() * FAULT_ROW + 4;
      this.from = 0;
      this.to = span;
      this.scroll = 0;
      this.chosen = -1;
      this.hovered = -1;
      this.onmove = () => {};
      this.waiting = false;
      this.group("client");
    }

    group(kind) {
      this.layout = lanesBy(kind);
      this.scroll = 0;
      this.draw();
    }

    /** Shows a window of time, kept within the run and not narrower than makes sense. */
    show(from, to) {
      const margin = span * 0.02;
      const width = Math.min(Math.max(to - from, NARROWEST), span + 2 * margin);
      this.from = Math.min(Math.max((from + to) / 2 - width / 2, -margin), span + margin - width);
      this.to = this.from + width;
      this.draw();
    }

    whole() {
      this.show(-span * 0.01, span * 1.01);
    }

    zoom(factor, around = (this.from + this.to) / 2) {
      const width = Math.min(Math.max((this.to - this.from) * factor, NARROWEST), span * 1.04);
      const share = (around - this.from) / (this.to - this.from);
      this.show(around - share * width, around + (1 - share) * width);
    }

    move(share) {
      const by = (this.to - this.from) * share;
      this.show(this.from + by, this.to + by);
    }

    /** Shows these operations with some room around them. */
    jump(places) {
      let from = Infinity;
      let to = -Infinity;
      for (const i of places) {
        from = Math.min(from, invoke[i]);
        to = Math.max(to, end[i]);
      }
      const room = Math.max((to - from) * 0.25, 50_000);
      const hit = this.layout.rows.find((each) => each.bad.includes(places[0]));
      if (hit) this.reveal(hit.y);
      this.show(from - room, to + room);
    }

    reveal(y) {
      const visible = this.height - this.top;
      if (y < this.scroll || y + ROW > this.scroll + visible) {
        this.scrollTo(y - visible / 2);
      }
    }

    scrollTo(y) {
      const most = Math.max(0, this.layout.height - (this.height - this.top));
      this.scroll = Math.min(Math.max(y, 0), most);
    }

    get height() {
      return Math.min(HEIGHT_MAX, this.top + this.layout.height + 4);
    }

    x(time) {
      return LEFT + ((time - this.from) / (this.to - this.from)) * (this.width - LEFT);
    }

    time(x) {
      return this.from + ((x - LEFT) / (this.width - LEFT)) * (this.to - this.from);
    }

    /** Draws before the next frame, however often it is asked. */
    draw() {
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.paint();
        this.onmove(this.from, this.to);
      });
    }

    paint() {
      const { pen, width, height } = lab.prepare(this.canvas, this.height);
      this.width = width;
      this.colours = lab.colours();
      pen.font = lab.font;
      pen.textBaseline = "middle";
      this.paintAxis(pen, height);
      this.paintFaults(pen, height);
      pen.save();
      pen.beginPath();
      pen.rect(0, this.top, width, height - this.top);
      pen.clip();
      for (const lane of this.layout.lanes) this.paintLane(pen, lane);
      for (const each of this.layout.rows) {
        const y = this.top + each.y - this.scroll;
        if (y > -ROW + this.top && y < height) this.paintRow(pen, each, y);
      }
      pen.restore();
    }

    paintAxis(pen, height) {
      const step = lab.step(this.to - this.from, Math.max(2, (this.width - LEFT) / 130));
      for (let k = Math.ceil(this.from / step); k * step <= this.to; k++) {
        const x = this.x(k * step);
        pen.fillStyle = this.colours.line;
        pen.fillRect(x, AXIS - 6, 1, height);
        pen.fillStyle = this.colours.quiet;
        pen.fillText(lab.moment(k * step, step), x + 4, AXIS / 2);
      }
    }

    paintFaults(pen, height) {
      pen.save();
      pen.beginPath();
      pen.rect(LEFT, 0, this.width - LEFT, height);
      pen.clip();
      for (const fault of faults) {
        if (fault.begin > this.to || fault.until < this.from) continue;
        const left = Math.max(this.x(fault.begin), LEFT);
        const right = Math.max(Math.min(this.x(fault.until), this.width), left + 2);
        const y = AXIS + fault.row * FAULT_ROW;
        pen.fillStyle = this.colours.shade;
        pen.globalAlpha = 0.1;
        pen.fillRect(left, y, right - left, height);
        pen.globalAlpha = 0.45;
        pen.fillRect(left, y, right - left, FAULT_ROW - 2);
        pen.globalAlpha = 1;
        pen.fillStyle = this.colours.text;
        fitted(pen, `${fault.what} ${fault.nodes}`, left + 4, y + FAULT_ROW / 2 - 1, right - left - 6);
      }
      pen.restore();
    }

    paintLane(pen, lane) {
      const y = this.top + lane.y - this.scroll;
      const tall = lane.rows.length * ROW;
      pen.fillStyle = this.colours.line;
      pen.fillRect(0, y + tall + GAP / 2, this.width, 1);
      pen.fillStyle = this.colours.quiet;
      fitted(pen, lane.name, 10, y + tall / 2, LEFT - 14);
    }

    paintRow(pen, each, y) {
      pen.save();
      pen.beginPath();
      pen.rect(LEFT, y, this.width - LEFT, ROW);
      pen.clip();
      const first = Math.max(0, firstAtLeast(each.begins, this.from) - 1);
      const last = firstAtLeast(each.begins, this.to);
      const room = this.width - LEFT;
      if (last - first > room) {
        this.paintDense(pen, each, y);
      } else {
        for (let place = first; place < last; place++) this.paintBar(pen, each, place, y);
      }
      for (const i of each.bad) {
        if (invoke[i] <= this.to) this.paintMark(pen, i, y, this.colours.bad);
      }
      for (const i of [this.hovered, this.chosen]) {
        const place = i < 0 ? -1 : firstAtLeast(each.begins, invoke[i]);
        if (place >= 0 && each.list[place] === i) this.paintMark(pen, i, y, this.colours.text);
      }
      pen.restore();
    }

    /** More operations than columns: the shares of the outcomes in each column. */
    paintDense(pen, each, y) {
      const tall = ROW - 4;
      const rest = [];
      let run = -1; // where columns without a gap began
      let at = firstAtLeast(each.begins, this.time(LEFT));
      pen.fillStyle = this.colours.ok;
      for (let x = LEFT; x <= this.width; x++) {
        const next = x < this.width ? firstAtLeast(each.begins, this.time(x + 1)) : at;
        const total = next - at;
        if (total > 0) {
          const [fail, info] = [1, 2].map((outcome) => each.sums[outcome][next] - each.sums[outcome][at]);
          // What is rare is seen all the same.
          const low = info > 0 ? Math.max((info / total) * tall, 3) : 0;
          const middle = fail > 0 ? Math.max((fail / total) * (tall - low), 2) : 0;
          if (low + middle > 0) rest.push([x, middle, low]);
          if (run < 0) run = x;
        } else if (run >= 0) {
          pen.fillRect(run, y + 2, x - run, tall);
          run = -1;
        }
        at = next;
      }
      pen.fillStyle = this.colours.fail;
      for (const [x, middle, low] of rest) pen.fillRect(x, y + 2 + tall - low - middle, 1, middle);
      pen.fillStyle = this.colours.info;
      for (const [x, , low] of rest) pen.fillRect(x, y + 2 + tall - low, 1, low);
    }

    paintBar(pen, each, place, y) {
      const i = each.list[place];
      const outcome = raw.outcome[i];
      const left = Math.max(this.x(invoke[i]), LEFT - 4);
      const right = Math.min(this.x(end[i]), this.width + 4);
      const wide = Math.max(right - left, 1.5);
      const colour = [this.colours.ok, this.colours.fail, this.colours.info][outcome];
      pen.fillStyle = colour;
      if (outcome === 2) {
        // Until the next operation of the lane, fading: nobody knows how long it goes on.
        const next = place + 1 < each.list.length ? invoke[each.list[place + 1]] : this.to;
        const tail = Math.min(Math.max(this.x(next) - left - wide, 0), this.width - left, 160);
        if (tail > 1) {
          const fade = pen.createLinearGradient(left + wide, 0, left + wide + tail, 0);
          fade.addColorStop(0, colour);
          fade.addColorStop(1, "transparent");
          pen.fillStyle = fade;
          pen.fillRect(left + wide, y + 5, tail, ROW - 10);
          pen.fillStyle = colour;
        }
      }
      pen.fillRect(left, y + 2, wide, ROW - 4);
      if (outcome === 1 && wide > 6) hatch(pen, left, y + 2, wide, ROW - 4, this.colours.card);
      if (wide > 30) {
        pen.fillStyle = outcome === 1 ? this.colours.text : this.colours.card;
        fitted(pen, lab.title(i), left + 5, y + ROW / 2, wide - 8);
      }
    }

    /** A frame around an operation that is seen at any zoom; an unknown one gets a line to the end. */
    paintMark(pen, i, y, colour) {
      if (raw.outcome[i] === 2) {
        pen.fillStyle = colour;
        const from = Math.max(this.x(end[i]), LEFT);
        for (let x = from; x < this.width; x += 8) pen.fillRect(x, y + ROW / 2 - 1, 5, 2);
      }
      const left = this.x(invoke[i]);
      const wide = Math.max(this.x(end[i]) - left, 5);
      if (left + wide < LEFT || left > this.width) return;
      if (wide <= 6) {
        pen.fillStyle = colour;
        pen.fillRect(left, y, wide, ROW);
      } else {
        pen.strokeStyle = colour;
        pen.lineWidth = 2.5;
        pen.strokeRect(left, y + 1.5, wide, ROW - 3);
      }
    }

    /** The operation at a point of the canvas, or -1. */
    at(x, y) {
      if (x < LEFT || y < this.top) return -1;
      const inner = y - this.top + this.scroll;
      const each = this.layout.rows.find((other) => inner >= other.y && inner < other.y + ROW);
      if (!each) return -1;
      const near = (4 / (this.width - LEFT)) * (this.to - this.from);
      const time = this.time(x);
      const hit = each.bad.find((i) => invoke[i] - near <= time && end[i] + near >= time);
      if (hit !== undefined) return hit;
      const place = firstAtLeast(each.begins, time + near) - 1;
      if (place < 0) return -1;
      const i = each.list[place];
      return end[i] + near >= time || raw.outcome[i] === 2 ? i : -1;
    }

    /** The faults at a point of their strip, as text; empty if there is none. */
    faultsAt(x, y) {
      if (x < LEFT || y < AXIS || y >= this.top) return "";
      const near = (3 / (this.width - LEFT)) * (this.to - this.from);
      const time = this.time(x);
      const line = Math.floor((y - AXIS) / FAULT_ROW);
      const hits = faults.filter((fault) => fault.row === line && fault.begin - near <= time &&
        fault.until + near >= time);
      return hits.map((fault) => `${fault.what} ${fault.nodes}\nfrom ${lab.time(fault.begin)} ` +
        (fault.end === null ? "on, did not end" : `for ${lab.time(fault.end - fault.begin)}`) +
        (fault.effects === null ? "" : `\neffects: ${fault.effects}`)).join("\n\n");
    }
  }

  /** As much of a text as fits. */
  function fitted(pen, text, x, y, room) {
    if (room < 12) return;
    const letters = Math.floor(room / 6.2);
    pen.fillText(text.length > letters ? `${text.slice(0, Math.max(1, letters - 1))}…` : text, x, y, room);
  }

  function hatch(pen, x, y, wide, tall, colour) {
    pen.save();
    pen.beginPath();
    pen.rect(x, y, wide, tall);
    pen.clip();
    pen.beginPath();
    for (let k = x - tall; k < x + wide; k += 6) {
      pen.moveTo(k, y + tall);
      pen.lineTo(k + tall, y);
    }
    pen.strokeStyle = colour;
    pen.globalAlpha = 0.5;
    pen.lineWidth = 1.5;
    pen.stroke();
    pen.restore();
  }

  lab.Timeline = Timeline;
})();
