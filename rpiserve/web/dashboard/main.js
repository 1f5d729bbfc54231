/**
 * The dashboard: puts the stream of events and what is asked for now and then together with what shows them.
 */

import { ProblemError, get, getCommands } from "./api.js";
import { Commands } from "./commands.js";
import { Detail } from "./detail.js";
import { byId, h, setText } from "./dom.js";
import { formatTime } from "./format.js";
import { Sensors } from "./sensors.js";
import { Services } from "./services.js";
import { Stream } from "./stream.js";
import { Values } from "./values.js";

const POLL = 10000;
const STATES = { live: "Live", lost: "Connection lost, trying again" };

const values = new Values(new Detail());
const commands = new Commands();
const sensors = new Sensors();
const services = new Services();
let name = "Dashboard";

const stream = new Stream(
  "/events?meta=1",
  {
    snapshot: (leaves) => values.replace(leaves),
    change: (change) => values.apply(change),
    sensor: (handler) => sensors.update(handler),
  },
  connectionChanged,
  () => attempt(() => get("/sensors")),
);

function connectionChanged(state) {
  document.documentElement.dataset.connection = state;
  byId("connection").dataset.state = state;
  setText(byId("connection"), STATES[state]);
  byId("connection").title = `since ${formatTime(Date.now())}`;
  showTitle();
  if (state === "live") {
    byId("login").hidden = true;
    load();
  } else {
    values.interrupt();
  }
}

/** Get what the stream does not bring; after a restart the service may be another one. */
async function load() {
  await Promise.all([
    attempt(async () => commands.show(await getCommands())),
    attempt(async () => sensors.replace(await get("/sensors"))),
    poll(),
  ]);
}

/** Ask for what changes rarely. No answer at all means that the stream is dead, too, which it cannot notice itself. */
async function poll() {
  if (document.hidden || document.documentElement.dataset.connection !== "live") {
    return;
  }
  await attempt(async () => showServices(await get("/services")));
  await attempt(async () => showReadiness(await get("/ready", [503])));
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof ProblemError)) {
      stream.doubt();
    } else if (error.problem.status === 401) {
      byId("login").hidden = false;
    }
  }
}

function showServices(answer) {
  services.show(answer);
  name = answer.services[0]?.name ?? name; // the service itself comes first
  setText(byId("service"), name);
  showTitle();
}

function showTitle() {
  const lost = document.documentElement.dataset.connection === "lost";
  document.title = lost ? `Connection lost: ${name}` : name;
}

function showReadiness({ ready, reasons }) {
  const notice = byId("readiness");
  const text = JSON.stringify(reasons);
  if (notice.dataset.reasons !== text) {
    notice.dataset.reasons = text;
    notice.replaceChildren(
      h("strong", {}, "The service is not ready"),
      h("ul", {}, ...(reasons ?? []).map((reason) => h("li", {}, reason))),
    );
  }
  notice.hidden = ready;
}

setInterval(poll, POLL);
document.addEventListener("visibilitychange", poll);
