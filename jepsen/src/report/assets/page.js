"use strict";

/* What the page does when somebody touches it. */
(() => {
  const element = (id) => document.getElementById(id);
  if (lab.count === 0) return;
  document.querySelector(".drawn").hidden = false;
  const tip = element("tip");
  const canvas = element("timeline");
  const timeline = new lab.Timeline(canvas);
  const charts = lab.charts(element("latency"), element("rate"));
  const failing = lab.raw.failing;
  let current = -1;

  timeline.onmove = (from, to) => {
    const step = (to - from) / 1000;
    element("where").textContent = `${lab.moment(Math.max(0, from), step)} to ` +
      `${lab.moment(Math.min(lab.span, to), step)} (${lab.time(to - from)})`;
    for (const chart of charts) {
      chart.window = [from, to];
      chart.paint();
    }
  };

  function tell(text, event) {
    tip.hidden = text === "";
    if (text === "") return;
    tip.textContent = text;
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, window.innerWidth - box.width - 8);
    const below = event.clientY + 16;
    const y = below + box.height > window.innerHeight ? event.clientY - box.height - 12 : below;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${Math.max(4, y)}px`;
  }

  function choose(i) {
    timeline.chosen = i;
    const chosen = element("chosen");
    chosen.hidden = i < 0;
    chosen.textContent = i < 0 ? "" : lab.about(i);
    timeline.draw();
  }

  function all() {
    if (failing.length > 0) timeline.jump(failing);
  }

  function neighbour(by) {
    if (failing.length === 0) return;
    current = current < 0 && by < 0 ? failing.length - 1
      : (current + by + failing.length) % failing.length;
    choose(failing[current]);
    timeline.jump([failing[current]]);
  }

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.offsetX, y: event.offsetY, from: timeline.from, to: timeline.to,
      scroll: timeline.scroll, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      const by = drag.x - event.offsetX;
      drag.moved ||= Math.abs(by) + Math.abs(drag.y - event.offsetY) > 3;
      if (!drag.moved) return;
      tell("", event);
      const share = (by / (timeline.width - timeline.x(timeline.from))) * (drag.to - drag.from);
      timeline.scrollTo(drag.scroll + drag.y - event.offsetY);
      timeline.show(drag.from + share, drag.to + share);
      return;
    }
    const i = timeline.at(event.offsetX, event.offsetY);
    if (i !== timeline.hovered) {
      timeline.hovered = i;
      timeline.draw();
    }
    tell(i < 0 ? timeline.faultsAt(event.offsetX, event.offsetY) : lab.about(i), event);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) choose(timeline.at(event.offsetX, event.offsetY));
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => {
    drag = null;
  });
  canvas.addEventListener("pointerleave", (event) => {
    timeline.hovered = -1;
    timeline.draw();
    tell("", event);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      timeline.move(((event.deltaX || event.deltaY) * lines) / 1000);
    } else {
      timeline.zoom(Math.exp((event.deltaY * lines) / 400), timeline.time(event.offsetX));
    }
  }, { passive: false });

  const keys = {
    ArrowLeft: () => timeline.move(-0.15),
    ArrowRight: () => timeline.move(0.15),
    ArrowUp: () => timeline.scrollTo(timeline.scroll - 36) ?? timeline.draw(),
    ArrowDown: () => timeline.scrollTo(timeline.scroll + 36) ?? timeline.draw(),
    "+": () => timeline.zoom(0.6),
    "=": () => timeline.zoom(0.6),
    "-": () => timeline.zoom(1 / 0.6),
    0: () => timeline.whole(),
    Home: () => timeline.whole(),
    f: all,
    n: () => neighbour(1),
    p: () => neighbour(-1),
    Escape: () => choose(-1),
  };
  canvas.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  element("lanes").addEventListener("change", (event) => timeline.group(event.target.value));
  element("zoom-in").addEventListener("click", keys["+"]);
  element("zoom-out").addEventListener("click", keys["-"]);
  element("whole").addEventListener("click", keys[0]);
  element("failing").addEventListener("click", all);
  element("failing-next").addEventListener("click", keys.n);
  element("failing-previous").addEventListener("click", keys.p);
  for (const id of ["failing-tools", "failing-key"]) element(id).hidden = failing.length === 0;

  for (const chart of charts) {
    chart.canvas.addEventListener("pointermove", (event) => tell(chart.about(event.offsetX), event));
    chart.canvas.addEventListener("pointerleave", (event) => tell("", event));
    chart.canvas.addEventListener("click", (event) => {
      const time = chart.time(event.offsetX);
      timeline.show(time - lab.span / 40, time + lab.span / 40);
    });
  }
  window.addEventListener("resize", () => timeline.draw());
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => timeline.draw());
  timeline.whole();
})();
