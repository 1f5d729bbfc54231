/**
 * All values: what the stream says of them is kept at once, and shown with the next frame of the browser.
 *
 * Every path has one tile for as long as it exists. An event marks the values it names; a frame brings up to date those
 * of them that can be seen. The others wait for the next tick, as laying out hundreds of tiles takes its time.
 */

import { now } from "./clock.js";
import { byId, setText } from "./dom.js";
import { count, keysOf } from "./format.js";
import { Group } from "./group.js";
import { Ordered } from "./ordered.js";
import { Series } from "./series.js";
import { Tile } from "./tile.js";

const GENERAL = "General";
const NONE = "No values yet. They appear here as soon as a sensor has been read or app.data has been set.";
const FILTER_FROM = 10;
const TICK = 1000;

export class Values {
  /** @param {Detail} detail the dialog that shows a value in large. */
  constructor(detail) {
    this._detail = detail;
    this._opened = now();
    this._entries = new Map();
    this._groups = new Map();
    this._changed = new Set();
    this._frame = null;
    this._known = false;
    this._ordered = new Ordered(byId("values-groups"));
    this._filter = byId("values-filter");
    this._search = this._filter.querySelector("input");
    this._search.addEventListener("input", () => this._find());
    this._tiles = new WeakMap();
    const saw = (seen) => seen.forEach((each) => this._saw(each));
    this._watcher = new IntersectionObserver(saw, { rootMargin: "200px" });
    setInterval(() => this._tick(), TICK);
  }

  /** Take these values instead of all that were known. */
  replace(leaves) {
    const fresh = new Map(Object.entries(leaves));
    this._known = true;
    this._remove([...this._entries.keys()].filter((path) => !fresh.has(path)));
    this._take(fresh);
  }

  /** Take over what has changed. */
  apply({ changed, removed }) {
    this._remove(removed);
    this._take(Object.entries(changed));
  }

  /** Let all lines end: nothing is known of the time until there is a connection again. */
  interrupt() {
    for (const entry of this._entries.values()) {
      entry.series.interrupt();
    }
  }

  _take(leaves) {
    for (const [path, leaf] of leaves) {
      this._record(path, leaf);
    }
    this._schedule();
  }

  _record(path, leaf) {
    const received = now();
    const entry = this._entries.get(path) ?? { path, series: new Series(), tile: null };
    if (entry.leaf && entry.leaf.unit !== leaf.unit) {
      entry.series = new Series();
    }
    Object.assign(entry, { leaf, received });
    if (typeof leaf.value === "number" && Number.isFinite(leaf.value) && leaf.state === "ok") {
      entry.series.add(Math.max(this._opened, received - leaf.age * 1000), leaf.value);
    } else {
      entry.series.interrupt();
    }
    this._entries.set(path, entry);
    this._changed.add(entry);
  }

  _remove(paths) {
    for (const path of paths) {
      const entry = this._entries.get(path);
      this._entries.delete(path);
      this._changed.delete(entry);
      if (entry?.tile) {
        this._watcher.unobserve(entry.tile.element);
        entry.group.remove(entry.tile);
      }
    }
    this._schedule();
  }

  _schedule() {
    this._frame ??= requestAnimationFrame(() => this._show());
  }

  _show(all = false) {
    this._frame = null;
    for (const entry of this._changed) {
      if (!entry.tile) {
        this._place(entry);
      }
      if (entry.tile.visible || all) {
        entry.tile.update();
        entry.tile.element.hidden = !this._matches(entry);
        this._changed.delete(entry);
      }
    }
    for (const [name, group] of this._groups) {
      if (group.tiles.size === 0) {
        this._ordered.remove(group.element);
        this._groups.delete(name);
      } else {
        group.fit();
      }
    }
    this._summarise();
  }

  _place(entry) {
    const keys = keysOf(entry.path);
    const top = keys.length === 1;
    const group = this._group(top ? "" : keys[0]);
    entry.group = group;
    entry.tile = new Tile(entry, top ? keys : keys.slice(1), this._detail);
    entry.tile.update();
    group.add(entry.tile);
    entry.tile.element.hidden = !this._matches(entry);
    this._tiles.set(entry.tile.element, entry.tile);
    this._watcher.observe(entry.tile.element);
  }

  _group(key) {
    let group = this._groups.get(key);
    if (!group) {
      group = new Group(key || GENERAL);
      this._groups.set(key, group);
      this._ordered.add(key, group.element);
    }
    return group;
  }

  _saw({ target, isIntersecting }) {
    const tile = this._tiles.get(target);
    tile.visible = isIntersecting;
    if (this._changed.delete(tile.entry)) {
      tile.update();
    } else {
      tile.refresh();
    }
  }

  _tick() {
    this._show(true);
    for (const { tile } of this._entries.values()) {
      tile?.refresh();
    }
  }

  _summarise() {
    const states = new Map();
    for (const { leaf } of this._entries.values()) {
      states.set(leaf.state, (states.get(leaf.state) ?? 0) + 1);
    }
    const trouble = ["stale", "error"].filter((state) => states.has(state));
    const parts = trouble.map((state) => `${states.get(state)} ${state === "error" ? "with an error" : state}`);
    const size = this._entries.size;
    setText(byId("values-summary"), size ? [count(size, "value"), ...parts].join(" · ") : "");
    setText(byId("values-empty"), this._known ? NONE : "Waiting for the first values…");
    byId("values-empty").hidden = size > 0;
    this._filter.hidden = size < FILTER_FROM && this._search.value === "";
  }

  _matches({ path, leaf }) {
    if (this._search.value === "") {
      return true;
    }
    const words = this._search.value.toLowerCase().split(/\s+/);
    const text = `${path} ${leaf.state}`.toLowerCase();
    return words.every((word) => text.includes(word));
  }

  _find() {
    for (const entry of this._entries.values()) {
      if (entry.tile) {
        entry.tile.element.hidden = !this._matches(entry);
      }
    }
    for (const group of this._groups.values()) {
      group.fit();
    }
  }
}
