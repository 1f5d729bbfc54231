/**
 * Elements without markup: all text goes in as text nodes, so that no value can ever become HTML.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an HTML element.
 *
 * @param {string} tag its name.
 * @param {Object} attributes its attributes; functions named `onclick` and the like become listeners, `true` an
 *     attribute without a value; `false`, `null` and `undefined` leave it out.
 * @param {...(Node|string)} children what is in it; strings become text.
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element, as `h` makes one of HTML. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), value);
    } else {
      setAttribute(element, name, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set, change or remove an attribute; one that is as wanted is not touched, which spares the browser work. */
export function setAttribute(element, name, value) {
  if (value === false || value === null || value === undefined) {
    if (element.hasAttribute(name)) {
      element.removeAttribute(name);
    }
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) {
    element.setAttribute(name, text);
  }
}

/** Set an element's text unless it is that already. */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Return the element of the page with this id. */
export function byId(id) {
  return document.getElementById(id);
}

const ICONS = {
  stale: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM8 4.5V8.3l2.5 1.7",
  error: "M8 2 14.8 14H1.2ZM8 6.5v3.6M8 12.1v.01",
  ok: "M3 8.5l3.2 3.2L13 4.8",
};

/** Make a small picture for a state, one that screen readers pass over: the state's name stands beside it. */
export function icon(name) {
  const attributes = { class: "icon", viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" };
  return svg("svg", attributes, svg("path", { d: ICONS[name] ?? ICONS.ok }));
}
