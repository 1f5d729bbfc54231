/**
 * One value on the page: its name, value, unit, age and state, and a small chart if it is a number.
 */

import { SmallChart } from "./chart.js";
import { now } from "./clock.js";
import { h, icon, setAttribute, setText } from "./dom.js";
import { describe, formatAge } from "./format.js";

const WIDE_FROM = 16;
const LONG_FROM = 90;
const STATES = { ok: "OK", stale: "Stale", error: "Error" };

export class Tile {
  /**
   * @param {Object} entry the value: its `path`, `leaf`, `series` and when it came, `received`.
   * @param {string[]} names the keys below the group it stands in.
   * @param {Detail} detail the dialog that shows it in large.
   */
  constructor(entry, names, detail) {
    this.entry = entry;
    this.wide = false;
    this.visible = false;
    this._drawn = false;
    this._name = h("h4", { class: "name", title: entry.path }, ...nameOf(names));
    this._state = h("span", { class: "state" });
    this._value = h("span", { class: "figure" });
    this._unit = h("span", { class: "unit" });
    this._age = h("p", { class: "age" });
    this._error = null;
    this._chart = null;
    this._more = null;
    this._detail = detail;
    const head = h("div", { class: "tile-head" }, this._name, this._state);
    this._reading = h("p", { class: "reading" }, this._value, " ", this._unit);
    this.element = h("li", { class: "tile" }, head, this._reading, this._age);
  }

  /** Show the value as it is now. */
  update() {
    const { leaf, path } = this.entry;
    const shown = describe(leaf.value, leaf.unit);
    setText(this._value, shown.text);
    setText(this._unit, shown.unit);
    setAttribute(this._reading, "title", shown.kind === "number" ? shown.exact : null);
    setAttribute(this.element, "data-kind", shown.kind);
    setAttribute(this.element, "data-on", leaf.value === true);
    this.wide ||= shown.kind === "text" && shown.exact.length > WIDE_FROM;
    setAttribute(this.element, "data-wide", this.wide);
    this._showState(leaf);
    this._offerWhole(shown.exact.length > LONG_FROM && shown.kind === "text", path);
    this._offerChart(path);
    this._drawn = false;
    this.refresh();
  }

  /** Bring up to date what changes by itself, the age, and draw the chart if it can be seen and is not drawn yet. */
  refresh() {
    const { leaf, received, series } = this.entry;
    setText(this._age, leaf.time === null ? "" : formatAge(leaf.age + (now() - received) / 1000));
    if (this.visible && this._chart && !this._drawn && series.buckets.length > 0) {
      this._chart.draw(series);
      this._drawn = true;
    }
  }

  _showState({ state, error }) {
    if (this.element.dataset.state !== state) {
      this.element.dataset.state = state;
      const text = h("span", { class: state === "ok" ? "visually-hidden" : null }, STATES[state] ?? state);
      this._state.replaceChildren(...(state === "ok" ? [] : [icon(state)]), text);
    }
    if (error && !this._error) {
      this._error = h("p", { class: "problem" });
      this._reading.after(this._error);
    } else if (!error && this._error) {
      this._error.remove();
      this._error = null;
    }
    if (this._error) {
      setText(this._error, error);
      setAttribute(this._error, "title", error);
    }
  }

  _offerWhole(long, path) {
    if (long && !this._more) {
      const open = () => this._detail.showText(this.entry);
      const name = h("span", { class: "visually-hidden" }, ` of ${path}`);
      this._more = h("button", { type: "button", class: "quiet more", onclick: open }, "Show all", name);
      this._age.before(this._more);
    } else if (!long && this._more) {
      this._more.remove();
      this._more = null;
    }
  }

  _offerChart(path) {
    if (!this._chart && this.entry.series.buckets.length > 0) {
      this._chart = new SmallChart();
      const open = () => this._detail.showChart(this.entry);
      const attributes = { type: "button", class: "chart", "aria-label": `Chart of ${path}`, onclick: open };
      this.element.append(h("button", { ...attributes, "aria-haspopup": "dialog" }, this._chart.element));
    }
  }
}

function nameOf(names) {
  const parts = names.slice(0, -1).map((name) => h("span", { class: "parent" }, `${name} / `));
  return [...parts, names.at(-1)];
}
