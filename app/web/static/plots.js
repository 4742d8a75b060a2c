// Draws every [data-plot] from its JSON document {"times": […seconds], "series": {name: […]}}, and again when that changes.
"use strict";  // `language` is console.js's, which comes before.

const colours = matchMedia("(prefers-color-scheme: dark)");
const few = new Intl.NumberFormat(language, {notation: "compact", maximumFractionDigits: 1});
const exact = new Intl.NumberFormat(language, {maximumFractionDigits: 1});
const hour = new Intl.DateTimeFormat(language, {hour: "2-digit", minute: "2-digit", hourCycle: "h23"});
const day = new Intl.DateTimeFormat(language, {month: "short", day: "numeric"});
// Steps between two marks of the time, in seconds: no plot has points nearer than a minute.
// Everything drawn is counted: half a worker has no mark.
const counts = Array.from({length: 12}, (_, power) => [1, 2, 5].map((one) => one * 10 ** power)).flat();
const steps_of_time = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

// CSS variables with light-dark() have no value a canvas could use; an element's own colour has.
function resolved(element, value) {
  const probe = document.createElement("span");
  probe.style.color = value;
  element.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// Where a value has none on either side there is no line to see: those become dots.
const alone = (plot, number) => {
  const values = plot.data[number], found = [];
  values.forEach((one, at) => { if (one != null && values[at - 1] == null && values[at + 1] == null) found.push(at); });
  return found;
};
const faint = (colour) => colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.13)");

class Plot {
  constructor(figure) {
    this.figure = figure;
    this.canvas = figure.querySelector(".canvas");
    this.items = [...figure.querySelectorAll("[data-series]")];
    this.note = figure.querySelector(".note");
    this.names = this.items.map((item) => item.textContent);
    this.tag = "";
    this.ask();
    setInterval(() => document.hidden || this.ask(), Number(figure.dataset.every) * 1000);
    new ResizeObserver(() => this.drawn?.setSize(this.size())).observe(this.canvas);
    colours.addEventListener("change", () => this.draw());
  }

  size() { return {width: this.canvas.clientWidth, height: this.canvas.clientHeight}; }

  async ask() {
    try {
      const response = await fetch(this.figure.dataset.plot, {headers: this.tag ? {"If-None-Match": this.tag} : {}});
      if (response.status !== 200) return;
      this.tag = response.headers.get("ETag") ?? "";
      const said = await response.json();
      this.notes = said.notes ?? [];
      this.data = [said.times, ...this.items.map((item) => said.series[item.dataset.series])];
    } catch {
      return; // the page says that the server has gone
    }
    const nothing = this.data[0].length === 0;
    this.figure.querySelector(".nothing").hidden = !nothing;
    this.canvas.hidden = nothing;
    if (nothing) return;
    if (this.drawn) this.drawn.setData(this.data); else this.draw();
  }

  draw() {
    if (!this.data) return;
    this.drawn?.destroy();
    const soft = resolved(this.figure, "var(--soft)"), line = resolved(this.figure, "var(--line)");
    const grid = {stroke: line, width: 1}, ticks = {stroke: line, width: 1, size: 4};
    const font = "12px system-ui, sans-serif";
    const paths = "stairs" in this.figure.dataset ? uPlot.paths.stepped({align: 1}) : undefined;
    this.drawn = new uPlot({
      ...this.size(),
      padding: [8, 28, 0, 0],
      cursor: {y: false, points: {size: 7}, sync: {key: "page"}},
      scales: {y: {range: (_, low, high) => [Math.min(0, low), Math.max(high * 1.08, 1)]}},
      axes: [
        {stroke: soft, grid, ticks, font, size: 32, incrs: steps_of_time, values: (_, at) => at.map((one) => this.at(one))},
        {stroke: soft, grid, ticks, font, size: 52, incrs: counts, values: (_, all) => all.map((one) => few.format(one))},
      ],
      series: [
        {},
        ...this.items.map((item) => {
          const stroke = resolved(item, "var(--colour)");
          const points = {show: false, filter: alone, size: 5, fill: stroke};
          return {stroke, width: 2, paths, points, fill: this.items.length === 1 ? faint(stroke) : undefined};
        }),
      ],
      hooks: {setCursor: [(plot) => this.tell(plot.cursor.idx)]},
    }, this.data, this.canvas);
  }

  at(seconds) {
    const one = new Date(seconds * 1000);
    return one.getHours() + one.getMinutes() ? hour.format(one) : day.format(one);
  }

  // Under the cursor the legend tells the values of that moment, and the note what was said of it.
  tell(index) {
    if (this.note) this.note.textContent = index == null ? "" : this.notes[index] ?? "";
    this.items.forEach((item, number) => {
      const value = index == null ? null : this.data[number + 1][index];
      item.textContent = this.names[number] + (value == null ? "" : ": " + exact.format(value));
    });
  }
}

for (const figure of document.querySelectorAll("[data-plot]")) new Plot(figure);
