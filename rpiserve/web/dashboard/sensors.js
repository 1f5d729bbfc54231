/**
 * What runs in the service: sensors, schedules, background work and threads, with their last and next runs.
 *
 * It is a table, also where a narrow page lays its cells out below each other: the roles are given explicitly, since
 * browsers take them from a table that is not laid out as one.
 */

import { secondsSince } from "./clock.js";
import { byId, h, icon, setAttribute, setText } from "./dom.js";
import { formatAge, formatDuration, formatUntil } from "./format.js";

const COLUMNS = ["Name", "State", "Runs when", "Last run", "Next run", "Took", "Runs", "Failures", "Missed"];
const STATES = { ok: "OK", error: "Error", pending: "Pending", running: "Running", finished: "Finished" };
const TICK = 1000;

export class Sensors {
  constructor() {
    this._rows = new Map();
    this._body = h("tbody", { role: "rowgroup" });
    const head = COLUMNS.map((name) => h("th", { role: "columnheader", scope: "col" }, name));
    this._table = h("table", { role: "table", "aria-labelledby": "sensors-title", hidden: true });
    this._table.append(h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...head)), this._body);
    byId("sensors-table").append(this._table);
    setInterval(() => this._rows.forEach((row) => row.refresh()), TICK);
  }

  /** Show these handlers and no others. */
  replace(handlers) {
    const names = new Set(handlers.map(keyOf));
    for (const [key, row] of this._rows) {
      if (!names.has(key)) {
        row.element.remove();
        this._rows.delete(key);
      }
    }
    handlers.forEach((handler) => this.update(handler));
    this._table.hidden = handlers.length === 0;
    byId("sensors-empty").hidden = handlers.length > 0;
  }

  /** Show how one handler is now. */
  update(handler) {
    const key = keyOf(handler);
    let row = this._rows.get(key);
    if (!row) {
      row = new Row();
      this._rows.set(key, row);
      this._body.append(row.element);
      this._table.hidden = false;
      byId("sensors-empty").hidden = true;
    }
    row.show(handler);
  }
}

function keyOf({ kind, name }) {
  return `${kind} ${name}`;
}

class Row {
  constructor() {
    this._cells = new Map(COLUMNS.map((name, index) => [name, cell(name, index === 0)]));
    this._name = h("span", { class: "handler" });
    this._kind = h("span", { class: "kind" });
    this._error = h("span", { class: "problem", hidden: true });
    this._cells.get("Name").append(this._name, this._kind, this._error);
    this.element = h("tr", { role: "row" }, ...this._cells.values());
  }

  show(handler) {
    this._handler = handler;
    setText(this._name, handler.name);
    setText(this._kind, handler.bus ? `${handler.kind}, bus ${handler.bus}` : handler.kind);
    setText(this._error, handler.error ?? "");
    this._error.hidden = !handler.error;
    this._showState(handler);
    this._set("Runs when", whenOf(handler));
    this._set("Took", handler.last_run && handler.duration !== null ? formatDuration(handler.duration) : "–");
    this._set("Runs", String(handler.runs));
    this._set("Failures", String(handler.failures));
    this._set("Missed", String(handler.missed));
    setAttribute(this._cells.get("Failures"), "data-trouble", handler.failures > 0);
    this.refresh();
  }

  /** Bring the times up to date, which pass by themselves. */
  refresh() {
    const { last_run: last, next_run: next } = this._handler;
    const [since, until] = [secondsSince(last), secondsSince(next)];
    this._set("Last run", since === null ? "never" : formatAge(since), last);
    this._set("Next run", until === null ? "–" : formatUntil(-until), next);
  }

  _showState({ state, stuck }) {
    const shown = stuck ? "stuck" : state;
    if (this.element.dataset.state !== shown) {
      this.element.dataset.state = shown;
      const picture = shown === "error" || stuck ? "error" : shown === "ok" || shown === "finished" ? "ok" : "stale";
      const text = h("span", { class: "state" }, icon(picture), stuck ? "Stuck" : STATES[state] ?? state);
      this._cells.get("State").replaceChildren(text);
    }
  }

  _set(column, text, title = null) {
    setText(this._cells.get(column), text);
    setAttribute(this._cells.get(column), "title", title);
  }
}

function cell(label, heading) {
  return heading
    ? h("th", { role: "rowheader", scope: "row", "data-label": label })
    : h("td", { role: "cell", "data-label": label });
}

function whenOf({ schedule, interval, timezone }) {
  if (schedule) {
    return timezone ? `${schedule} (${timezone})` : schedule;
  }
  return typeof interval === "number" ? `every ${formatDuration(interval)}` : "–";
}
