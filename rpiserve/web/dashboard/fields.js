/**
 * The fields of a command's form, made from the JSON Schema of its arguments.
 */

import { h, setAttribute, setText } from "./dom.js";

const DEPTH = 8;
const BAD = Symbol("what was entered is no value of this kind");
const TOO_LARGE = Symbol("a whole number that JavaScript would round");
const NOTHING = Symbol("nothing was entered");

/**
 * Reduce a schema to what a form needs to know: references followed, and an alternative of null taken as `nullable`.
 *
 * @returns {{schema: Object, nullable: boolean}}
 */
function resolve(schema, definitions, depth = 0) {
  const { $ref: reference, anyOf: options, ...rest } = schema;
  if (depth < DEPTH && typeof reference === "string") {
    const found = definitions.get(reference.replace("#/$defs/", "")) ?? {};
    return resolve({ ...found, ...rest }, definitions, depth + 1);
  }
  if (depth < DEPTH && Array.isArray(options)) {
    const others = options.filter((option) => option.type !== "null");
    if (others.length === 1) {
      const inner = resolve({ ...others[0], ...rest }, definitions, depth + 1);
      return { ...inner, nullable: inner.nullable || options.length > 1 };
    }
  }
  return { schema, nullable: false };
}

/** Return the kind of field that a resolved schema asks for. */
function kindOf(schema) {
  if (Array.isArray(schema.enum) || "const" in schema) {
    return "choice";
  }
  if (schema.type === "string") {
    return schema.format === "date" ? "date" : "string";
  }
  if (["boolean", "integer", "number"].includes(schema.type)) {
    return schema.type;
  }
  return schema.type === "array" || schema.type === "object" ? "json" : "any";
}

/** One argument: its label, its input, a hint and the error that the service has with it. */
export class Field {
  /**
   * @param {string} name of the argument.
   * @param {Object} schema what JSON Schema says of it.
   * @param {Map<string, Object>} definitions what its references lead to.
   * @param {{id: string, required: boolean, text: string}} options the id of the input, whether the argument has to be
   *     given, and its annotation.
   */
  constructor(name, schema, definitions, { id, required, text }) {
    const resolved = resolve(schema, definitions);
    this.name = name;
    this._schema = resolved.schema;
    this._nullable = resolved.nullable;
    this._default = schema.default;
    this._hasDefault = "default" in schema && schema.default !== null;
    this._kind = kindOf(this._schema);
    this._needed = required && !this._nullable;
    this._required = required;
    if (this._kind === "boolean" && (this._nullable || (!required && !this._hasDefault))) {
      this._kind = "choice";
      this._schema = { enum: [true, false] };
    }
    this._choices = this._schema.enum?.filter((value) => value !== null) ?? [this._schema.const];
    this.input = this._makeInput(id);
    this._hint = h("p", { class: "hint", id: `${id}-hint` }, this._hintText(text, definitions));
    this._error = h("p", { class: "field-error", id: `${id}-error`, hidden: true });
    this.element = this._assemble(id);
    this._describe(false);
  }

  /**
   * Read what was entered.
   *
   * @returns {{value: *}|{error: string}|null} null if the argument is to be left out.
   */
  read() {
    const value = this._entered();
    if (value === BAD) {
      return { error: this._kind === "json" ? "this is not JSON" : "this is not a number" };
    }
    if (value === TOO_LARGE) {
      return { error: "this number is too large to be sent exactly" };
    }
    if (value !== NOTHING) {
      return { value };
    }
    if (this._needed) {
      return { error: "it is missing" };
    }
    return this._required ? { value: null } : null;
  }

  /** Show an error with this argument, or none. */
  showError(text) {
    setText(this._error, text ?? "");
    this._error.hidden = !text;
    setAttribute(this.input, "aria-invalid", text ? "true" : null);
    this._describe(Boolean(text));
  }

  _describe(wrong) {
    const ids = [wrong && this._error.id, this._hint.textContent && this._hint.id].filter(Boolean);
    setAttribute(this.input, "aria-describedby", ids.join(" ") || null);
  }

  _assemble(id) {
    const star = this._needed && this._kind !== "boolean";
    const mark = star ? [h("span", { class: "required", "aria-hidden": "true" }, " *")] : [];
    const label = h("label", { for: id }, this.name, ...mark);
    const checkbox = this._kind === "boolean";
    const head = checkbox ? h("div", { class: "check" }, this.input, label) : label;
    const hint = this._hint.textContent ? this._hint : null;
    return h("div", { class: "field" }, head, checkbox ? null : this.input, hint, this._error);
  }

  _makeInput(id) {
    const { minimum, maximum } = this._schema;
    const common = { id, "aria-required": this._needed && this._kind !== "boolean" ? "true" : null };
    const text = { ...common, autocomplete: "off", spellcheck: "false", placeholder: this._placeholder() };
    switch (this._kind) {
      case "boolean": {
        const input = h("input", { id, type: "checkbox" });
        input.checked = this._default === true;
        input.defaultChecked = input.checked;
        return input;
      }
      case "choice":
        return h("select", common, ...this._options());
      case "integer":
      case "number":
        return h("input", { ...text, type: "number", step: "any", min: minimum, max: maximum, inputmode: "decimal" });
      case "date":
        return h("input", { ...common, type: "date" });
      case "string":
        return h("input", { ...text, type: "text" });
      default:
        return h("textarea", { ...text, rows: this._kind === "json" ? 3 : 1, class: "code" });
    }
  }

  _options() {
    const unset = this._hasDefault ? `${written(this._default)} (default)` : this._needed ? "Choose…" : "Default";
    const options = [h("option", { value: "" }, unset)];
    this._choices.forEach((choice, index) => {
      if (!this._hasDefault || choice !== this._default) {
        options.push(h("option", { value: String(index) }, written(choice)));
      }
    });
    return options;
  }

  _placeholder() {
    return this._hasDefault ? written(this._default) : null;
  }

  _hintText(annotation, definitions) {
    const description = this._schema.description ?? "";
    if (this._kind === "json") {
      return [description, `JSON: ${shapeOf(this._schema, definitions)}`].filter(Boolean).join(". ");
    }
    if (this._kind === "any") {
      return description || annotation || "Text, or any JSON";
    }
    return [description, this._limits()].filter(Boolean).join(", ");
  }

  _limits() {
    const { type, minimum, maximum, exclusiveMinimum, exclusiveMaximum, format } = this._schema;
    const limits = [
      this._kind === "integer" ? "whole number" : this._kind === "number" && type === "number" ? "number" : null,
      this._kind === "string" && format ? format : null,
      minimum !== undefined ? `from ${minimum}` : null,
      exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : null,
      maximum !== undefined ? `up to ${maximum}` : null,
      exclusiveMaximum !== undefined ? `below ${exclusiveMaximum}` : null,
      this._needed || ["boolean", "choice"].includes(this._kind) ? null : "optional",
    ];
    return limits.filter(Boolean).join(", ");
  }

  _entered() {
    if (this._kind === "boolean") {
      return this.input.checked;
    }
    const text = this.input.value;
    if (this.input.validity.badInput) {
      return BAD;
    }
    if (text.trim() === "") {
      return NOTHING;
    }
    switch (this._kind) {
      case "choice":
        return this._choices[Number(text)];
      case "integer":
        return /^-?\d+$/.test(text) && !Number.isSafeInteger(Number(text)) ? TOO_LARGE : Number(text);
      case "number":
        return Number(text);
      case "json":
        return parsed(text, BAD);
      case "any":
        return parsed(text, text);
      default:
        return text;
    }
  }
}

function parsed(text, otherwise) {
  try {
    return JSON.parse(text);
  } catch {
    return otherwise;
  }
}

function written(value) {
  if (typeof value === "boolean") {
    return value ? "on" : "off";
  }
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Say what JSON is wanted, in a line: `{"x": number, "y"?: number}`, `[integer, …]`. */
function shapeOf(schema, definitions, depth = 0) {
  const resolved = resolve(schema, definitions).schema;
  if (resolved.type === "array") {
    return resolved.items && depth < 3 ? `[${shapeOf(resolved.items, definitions, depth + 1)}, …]` : "[…]";
  }
  if (resolved.type === "object") {
    const required = new Set(resolved.required ?? []);
    const members = Object.entries(resolved.properties ?? {}).map(([name, member]) => {
      const mark = required.has(name) ? "" : "?";
      return `${JSON.stringify(name)}${mark}: ${depth < 3 ? shapeOf(member, definitions, depth + 1) : "…"}`;
    });
    return `{${members.join(", ") || "…"}}`;
  }
  if (resolved.enum) {
    return resolved.enum.map((value) => JSON.stringify(value)).join(" | ");
  }
  return String(resolved.type ?? "anything");
}
