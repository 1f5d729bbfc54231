/**
 * Requests to the service that this page came from.
 */

import { learn } from "./clock.js";

const PATIENCE = 8000;

/** What the service answered instead of what was asked for; `problem` is its `application/problem+json`. */
export class ProblemError extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || `the answer was ${problem.status}`);
    this.problem = problem;
  }
}

/**
 * Get JSON.
 *
 * @param {string} path what to get.
 * @param {number[]} accepted further statuses whose answer is as good as that of a 200.
 * @throws {ProblemError} the service refused; any other error means that it did not answer.
 */
export async function get(path, accepted = []) {
  return parsed(await asked(path), accepted);
}

/** Get the commands, and whether they may be run: not by a token that may only read. */
export async function getCommands() {
  const response = await asked("/cmds");
  const { Commands: commands } = await parsed(response, []);
  return { commands, mayRun: response.headers.get("Rpiserve-Role") !== "read" };
}

/** Call a command, for as long as it takes, and return its result. */
export async function callCommand(name, args) {
  const response = await fetch("/cmd", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ Command: { Name: name, Args: args } }),
  });
  return (await parsed(response, [])).Command.Result;
}

async function asked(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  learn(response.headers.get("Date"));
  return response;
}

async function parsed(response, accepted) {
  const text = await response.text();
  const body = json(text);
  if (response.ok || accepted.includes(response.status)) {
    return body;
  }
  const problem = body !== null && typeof body === "object" ? body : {};
  throw new ProblemError({ title: response.statusText, ...problem, status: response.status });
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
