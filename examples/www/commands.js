// Lists the commands of the daemon that serves this page, and calls them. All that comes from there is put in as text.

const status = document.querySelector("#status");
const list = document.querySelector("#commands");
const template = document.querySelector("#command");

/** Return the field for one argument: a choice where its schema has one, else a line of text. */
function fieldFor(name, schema, required) {
  const choices = schema.enum ?? (schema.type === "boolean" ? [true, false] : null);
  const field = document.createElement(choices ? "select" : "input");
  if (choices && !required && schema.default === undefined) field.add(new Option("", ""));
  for (const choice of choices ?? []) field.add(new Option(choice));
  if (["integer", "number"].includes(schema.type)) field.inputMode = "decimal";
  if (schema.default !== undefined && schema.default !== null) {
    field.value = typeof schema.default === "object" ? JSON.stringify(schema.default) : schema.default;
  }
  field.name = name;
  field.required = required;
  return field;
}

/** Return a label with the field for one argument. A text for people stands beside the name, a type does not. */
function labelled(name, { $ref, ...schema }, { $defs = {}, required }) {
  const whole = { ...$defs[$ref?.split("/").at(-1)], ...schema };
  const label = document.createElement("label");
  const note = document.createElement("small");
  note.textContent = [schema.description, required.includes(name) ? "" : "optional"].filter(Boolean).join(", ");
  label.append(name, note.textContent ? " " : "", note, fieldFor(name, whole, required.includes(name)));
  return label;
}

/** Call a command and return its result. What the server refuses becomes an Error with its words and its errors. */
async function call(name, args) {
  const answer = await fetch("/cmd", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ Command: { Name: name, Args: args } }),
  }).catch(() => {
    throw new Error("The daemon cannot be reached.");
  });
  const body = await answer.json();
  if (answer.ok) return body.Command.Result;
  const detail = body.incident ? `${body.detail}: ${body.incident}` : body.detail;
  throw Object.assign(new Error(detail), { errors: body.errors ?? [] });
}

/** Return the arguments that are filled in. */
function filledIn(form) {
  return Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
}

/** Return the form of one command. */
function formFor({ Name, Doc, Schema }, number) {
  const form = template.content.cloneNode(true).querySelector("form");
  const heading = form.querySelector("h2");
  const output = form.querySelector("output");
  heading.textContent = Name;
  heading.id = `command-${number}`;
  form.setAttribute("aria-labelledby", heading.id);
  form.querySelector("button").setAttribute("aria-describedby", heading.id);
  form.querySelector(".doc").textContent = Doc;
  form.querySelector(".arguments").append(
    ...Object.entries(Schema.properties).map(([name, schema]) => labelled(name, schema, Schema)),
  );

  const show = (text, kind, wrong = []) => {
    output.textContent = text;
    output.className = kind;
    for (const field of form.elements) {
      if (field.name) field.setAttribute("aria-invalid", wrong.some(({ argument }) => argument === field.name));
    }
    form.querySelector("[aria-invalid=true]")?.focus();
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.ariaBusy === "true") return;
    form.ariaBusy = "true";
    show("…", "");
    try {
      show(JSON.stringify(await call(Name, filledIn(form)), null, 1), "good");
    } catch (error) {
      show(error.message, "bad", error.errors);
    } finally {
      form.ariaBusy = "false";
    }
  });
  return form;
}

try {
  const { Commands } = await (await fetch("/cmds")).json();
  list.replaceChildren(...Commands.map(({ Command }, number) => formFor(Command, number)));
  status.textContent = Commands.length === 1 ? "1 command" : `${Commands.length} commands`;
} catch (error) {
  status.textContent = `The commands cannot be had: ${error.message}`;
}
