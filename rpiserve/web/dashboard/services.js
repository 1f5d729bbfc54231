/**
 * The services on the bus with their actions, and how the bus is.
 */

import { secondsSince } from "./clock.js";
import { byId, h, setAttribute, setText } from "./dom.js";
import { count, formatAge } from "./format.js";

export class Services {
  constructor() {
    this._list = byId("services-list");
    this._shown = "";
  }

  /** Show what `/services` says. */
  show({ bus, services }) {
    this._showBus(bus);
    const text = JSON.stringify(services);
    if (text !== this._shown) {
      this._shown = text;
      this._list.replaceChildren(...services.map(cardOf));
    }
    byId("services-empty").hidden = services.length > 0;
  }

  _showBus({ kind, connected, since, error }) {
    const where = kind === "memory" ? "In memory, within this process" : "Redis";
    const seconds = secondsSince(since);
    const when = seconds === null ? "" : ` since ${formatAge(seconds)}`.replace("since just now", "just now");
    const state = connected ? "connected" : "not connected";
    const parts = kind === "memory" && connected ? [where] : [where, `${state}${when.replace(" ago", "")}`, error];
    setText(byId("bus"), parts.filter(Boolean).join(" · "));
    setAttribute(byId("bus"), "data-trouble", !connected);
  }
}

function cardOf({ name, actions }) {
  const items = actions.map((action) => {
    const doc = (action.doc ?? "").split("\n")[0];
    return h("li", {}, h("code", {}, action.name), doc ? h("span", { class: "hint" }, doc) : null);
  });
  return h(
    "article",
    { class: "card service" },
    h("h3", {}, name, " ", h("span", { class: "tally" }, count(actions.length, "action"))),
    items.length ? h("ul", {}, ...items) : h("p", { class: "hint" }, "It has no actions."),
  );
}
