/**
 * The commands, each as a form: its arguments, and what came of calling it.
 */

import { ProblemError, callCommand } from "./api.js";
import { byId, h, setAttribute, setText } from "./dom.js";
import { Field } from "./fields.js";
import { formatDuration } from "./format.js";

const FOLD_FROM = 8;

export class Commands {
  constructor() {
    this._list = byId("commands-list");
    this._hint = byId("commands-hint");
    this._forms = new Map();
  }

  /** Show these commands; a form whose command is still the same keeps what was entered. */
  show({ commands, mayRun }) {
    const before = this._forms;
    this._forms = new Map();
    for (const { Command: command } of commands) {
      const key = JSON.stringify(command);
      this._forms.set(key, before.get(key) ?? new Form(command));
    }
    for (const [key, form] of before) {
      if (!this._forms.has(key)) {
        form.element.remove();
      }
    }
    let place = this._list.firstChild;
    for (const { element } of this._forms.values()) {
      if (element === place) {
        place = place.nextSibling;
      } else {
        this._list.insertBefore(element, place);
      }
    }
    for (const form of this._forms.values()) {
      form.refuse(mayRun ? null : this._hint);
    }
    this._hint.hidden = mayRun || this._forms.size === 0;
    byId("commands-empty").hidden = this._forms.size > 0;
  }
}

let made = 0;

class Form {
  constructor(command) {
    this._name = command.Name;
    this._id = `command-${(made += 1)}`;
    this._busy = false;
    this._fields = this._makeFields(command);
    this._button = h("button", { type: "submit" }, "Run");
    this._outcome = h("div", { class: "outcome", role: "status" });
    this._form = h("form", { novalidate: true, onsubmit: (event) => this._submit(event) });
    this._form.append(...this._arranged(), this._button);
    const simple = this._fields.length === 0;
    this.element = h("article", { class: "card command", "aria-labelledby": this._id, "data-simple": simple });
    this.element.append(h("h3", { id: this._id }, ...titleOf(this._name)), ...docOf(command.Doc));
    this.element.append(this._form, this._outcome);
  }

  /** Let it not be run, for the reason that this element gives; with null, let it. */
  refuse(hint) {
    setAttribute(this._button, "disabled", hint !== null);
    setAttribute(this._button, "title", hint?.textContent);
    setAttribute(this._button, "aria-describedby", hint?.id);
  }

  _makeFields({ Args: annotations, Schema: schema }) {
    const texts = new Map(Object.entries(annotations ?? {}));
    const definitions = new Map(Object.entries(schema?.$defs ?? {}));
    const required = new Set(schema?.required ?? []);
    const fields = Object.entries(schema?.properties ?? {}).map(([name, property], index) => {
      const id = `${this._id}-${index}`;
      return new Field(name, property, definitions, { id, required: required.has(name), text: texts.get(name) ?? "" });
    });
    this._folded = null;
    this._more = null;
    if (schema?.additionalProperties) {
      const more = { id: `${this._id}-more`, required: false, text: "" };
      this._more = new Field("More arguments", { type: "object" }, definitions, more);
    }
    const optional = fields.filter((field) => !required.has(field.name));
    this._optional = new Set([...optional, ...(this._more ? [this._more] : [])]);
    return this._more ? [...fields, this._more] : fields;
  }

  /** A long form shows what is needed, and folds away what may be left out. */
  _arranged() {
    if (this._fields.length === 0) {
      return [];
    }
    if (this._fields.length < FOLD_FROM || this._optional.size < 2) {
      return [fieldset(this._fields)];
    }
    const needed = this._fields.filter((field) => !this._optional.has(field));
    const optional = [...this._optional];
    this._folded = h("details", {}, h("summary", {}, `${optional.length} more, all optional`), fieldset(optional));
    return needed.length > 0 ? [fieldset(needed), this._folded] : [this._folded];
  }

  async _submit(event) {
    event.preventDefault();
    if (this._busy) {
      return;
    }
    const args = this._read();
    if (args !== null) {
      await this._call(args);
    }
  }

  /** Return the arguments, or null after having shown what is wrong with them. */
  _read() {
    const args = [];
    const errors = [];
    for (const field of this._fields) {
      const entered = field.read();
      if (entered?.error) {
        errors.push([field, entered.error]);
      } else if (entered && field === this._more) {
        args.push(...Object.entries(entered.value ?? {}));
      } else if (entered) {
        args.push([field.name, entered.value]);
      }
    }
    this._showErrors(errors);
    if (errors.length > 0) {
      this._tell("error", "Not sent: please check the arguments.");
      return null;
    }
    return Object.fromEntries(args); // which, unlike assigning, has no special keys
  }

  async _call(args) {
    const started = performance.now();
    this._work(true);
    try {
      const result = await callCommand(this._name, args);
      this._tell("ok", `Done in ${formatDuration((performance.now() - started) / 1000)}.`, ...resultOf(result));
    } catch (error) {
      this._failed(error);
    } finally {
      this._work(false);
    }
  }

  _failed(error) {
    if (!(error instanceof ProblemError)) {
      this._tell("error", "No answer. Whether the command has run is not known.");
      return;
    }
    const { title, status, detail, errors, incident } = error.problem;
    const own = new Map(this._fields.map((field) => [field.name, field]));
    const found = Array.isArray(errors) ? errors.filter((each) => own.has(each.argument)) : [];
    this._showErrors(found.map(({ argument, message }) => [own.get(argument), message]));
    const rest = found.length > 0 && found.length === errors.length ? "Please check the arguments." : detail;
    const number = incident ? `Incident ${incident}, see the log.` : null;
    const lines = [rest, number].filter(Boolean).map((text) => h("p", {}, text));
    this._tell("error", `${title || "Error"} (${status})`, ...lines);
  }

  _showErrors(errors) {
    const texts = new Map(errors);
    for (const field of this._fields) {
      field.showError(texts.get(field));
    }
    const first = this._fields.find((field) => texts.has(field));
    if (this._folded && first && errors.some(([field]) => this._optional.has(field))) {
      this._folded.open = true;
    }
    first?.input.focus();
  }

  /** The button stays where the focus can be, or the keyboard would lose its place. */
  _work(busy) {
    this._busy = busy;
    setAttribute(this._button, "aria-disabled", busy ? "true" : null);
    setText(this._button, busy ? "Running…" : "Run");
    if (busy) {
      this._showErrors([]);
      this._tell("busy", "");
    }
  }

  _tell(state, line, ...more) {
    setAttribute(this._outcome, "data-state", state);
    this._outcome.replaceChildren(...(line ? [h("p", { class: "line" }, line)] : []), ...more);
  }
}

function fieldset(fields) {
  return h("div", { class: "fields" }, ...fields.map((field) => field.element));
}

function titleOf(name) {
  const dot = name.lastIndexOf(".") + 1;
  return dot ? [h("span", { class: "parent" }, name.slice(0, dot)), name.slice(dot)] : [name];
}

function docOf(doc) {
  const [first, ...rest] = (doc ?? "").split(/\n\s*\n/);
  const whole = rest.join("\n\n").trimEnd();
  return [
    ...(first ? [h("p", { class: "doc" }, first)] : []),
    ...(whole ? [h("details", {}, h("summary", {}, "More about it"), h("p", { class: "doc" }, whole))] : []),
  ];
}

function resultOf(result) {
  if (result === null || result === undefined) {
    return [];
  }
  const text = typeof result === "string" ? result : JSON.stringify(result, null, 2);
  return [h("pre", { class: "result", tabindex: 0, role: "region", "aria-label": "Result" }, text)];
}
