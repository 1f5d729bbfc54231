/**
 * The dialog: one value in large, as a chart or, if it is a long text, in full.
 *
 * The browser does the rest: Escape closes it, and the focus goes back to what opened it.
 */

import { byId, h, setAttribute, setText, svg } from "./dom.js";
import { largeChart, summaryOf } from "./chart.js";
import { now } from "./clock.js";
import { describe, formatTime, keysOf } from "./format.js";

const REFRESH = 1000;

export class Detail {
  constructor() {
    this._dialog = byId("detail");
    this._body = byId("detail-body");
    this._timer = null;
    byId("detail-close").addEventListener("click", () => this._dialog.close());
    this._dialog.addEventListener("click", (event) => {
      if (event.target === this._dialog) {
        this._dialog.close();
      }
    });
    this._dialog.addEventListener("close", () => {
      clearInterval(this._timer);
      this._entry = null;
    });
    window.addEventListener("resize", () => this._draw());
  }

  /** Show the chart of a value, and keep it up to date while it is open. */
  showChart(entry) {
    this._entry = entry;
    this._pointer = null;
    this._readout = h("p", { class: "readout" });
    this._plot = h("div", { class: "plot" });
    this._facts = h("dl", { class: "facts" });
    this._plot.addEventListener("pointermove", (event) => this._point(event));
    this._plot.addEventListener("pointerleave", () => this._unpoint());
    this._open(entry.path, this._readout, this._plot, this._facts);
    this._draw();
    this._timer = setInterval(() => this._draw(), REFRESH);
  }

  /** Show all of a value's text, as it is now. */
  showText(entry) {
    const { exact } = describe(entry.leaf.value, entry.leaf.unit);
    this._open(entry.path, h("pre", { class: "whole", tabindex: 0 }, exact));
  }

  _open(path, ...content) {
    clearInterval(this._timer);
    setText(byId("detail-title"), keysOf(path).join(" / "));
    this._body.replaceChildren(...content);
    this._dialog.showModal();
    byId("detail-close").focus();
  }

  _draw() {
    if (!this._entry?.series.buckets.length || !this._dialog.open) {
      return;
    }
    const { series, leaf } = this._entry;
    const [width, height] = [this._plot.clientWidth, this._plot.clientHeight];
    this._chart = largeChart(series, leaf.unit, width, height, now());
    this._plot.replaceChildren(this._chart.element);
    const facts = summaryOf(series, leaf.unit);
    this._facts.replaceChildren(...facts.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
    this._mark();
  }

  _point(event) {
    this._pointer = event.clientX - this._plot.getBoundingClientRect().left;
    this._mark();
  }

  _unpoint() {
    this._pointer = null;
    this._mark();
  }

  /** Mark the reading nearest to the pointer, and say what it was. */
  _mark() {
    this._chart.element.querySelector(".mark")?.remove();
    if (this._pointer === null) {
      setText(this._readout, "Since this page was opened");
      return;
    }
    const { x, y, bucket } = this._chart.nearest(this._pointer);
    const mark = svg("g", { class: "mark" });
    const height = this._plot.clientHeight;
    mark.append(svg("path", { d: `M${x} 12V${height - 28}` }), svg("circle", { cx: x, cy: y, r: 5 }));
    this._chart.element.append(mark);
    const shown = describe(bucket.last, this._entry.leaf.unit);
    setText(this._readout, `${formatTime(bucket.time)}: ${[shown.text, shown.unit].filter(Boolean).join(" ")}`);
    setAttribute(this._readout, "title", shown.exact);
  }
}
