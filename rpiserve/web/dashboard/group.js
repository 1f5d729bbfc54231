/**
 * The values that share their first key, below a heading.
 */

import { h, setAttribute } from "./dom.js";
import { Ordered } from "./ordered.js";

const LARGEST_SPAN = 8;

export class Group {
  /** @param {string} name its heading. */
  constructor(name) {
    const list = h("ul", { class: "tiles" });
    this.tiles = new Set();
    this._ordered = new Ordered(list);
    this.element = h("div", { class: "group" }, h("h3", { title: name }, name), list);
  }

  /** Take in a tile. */
  add(tile) {
    this.tiles.add(tile);
    this._ordered.add(tile.entry.path, tile.element);
  }

  /** Drop a tile. */
  remove(tile) {
    this.tiles.delete(tile);
    this._ordered.remove(tile.element);
  }

  /** Take as much width as the tiles shown need; the style sheet knows how much that is. */
  fit() {
    let span = 0;
    for (const tile of this.tiles) {
      span += tile.element.hidden ? 0 : tile.wide ? 2 : 1;
    }
    this.element.hidden = span === 0;
    setAttribute(this.element, "data-span", Math.min(span, LARGEST_SPAN));
  }
}
