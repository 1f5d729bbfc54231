/**
 * How values, times and paths are written. Nothing here knows of the page.
 */

const NARROW_SPACE = "\u202f";
const MINUS = "\u2212";
const LONGEST = 600;

const DECIMAL = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const SECONDS = [[86400, "d", 172800], [3600, "h", 7200], [60, "min", 120]];

const formatters = new Map();

function fixed(value, fewest, most) {
  const key = `${fewest} ${most}`;
  if (!formatters.has(key)) {
    const options = { minimumFractionDigits: fewest, maximumFractionDigits: most, useGrouping: "min2" };
    formatters.set(key, new Intl.NumberFormat("en-GB", options));
  }
  const text = formatters.get(key).format(value).replaceAll(",", NARROW_SPACE).replace("-", MINUS);
  return /[1-9]/.test(text) ? text : text.replace(MINUS, "");
}

function raised(power) {
  const digits = [...power.replace(/[+-]/, "")].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);
  return (power.startsWith("-") ? "⁻" : "") + digits.join("");
}

/** Return a number as people read it: as many decimals as its size deserves. */
export function formatNumber(value) {
  const size = Math.abs(value);
  if (!Number.isFinite(value)) {
    return String(value).replace("-", MINUS); // JSON may have larger numbers than there are here
  }
  if (size !== 0 && (size >= 1e15 || size < 1e-4)) {
    const [digits, power] = value.toExponential(3).split("e");
    return `${String(Number(digits)).replace("-", MINUS)}\u00a0×\u00a010${raised(power)}`;
  }
  return fixed(value, 0, decimalsFor(size));
}

function decimalsFor(size) {
  const significant = size > 0 ? 2 - Math.floor(Math.log10(size)) : 0;
  return size >= 1000 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : significant;
}

/** Return a number with exactly so many decimals, for the labels of an axis. */
export function formatFixed(value, decimals) {
  return Math.abs(value) >= 1e15 ? formatNumber(value) : fixed(value, decimals, decimals);
}

/**
 * Return by what to divide values of this size and what unit they then have: 27250937856 B are 27.25 GB.
 *
 * @returns {{factor: number, unit: string}}
 */
export function scaleFor(size, unit) {
  if (unit === "B" || unit === "B/s") {
    const [factor, prefix] = DECIMAL.find(([least]) => size >= least) ?? [1, ""];
    return { factor, unit: prefix + unit };
  }
  if (unit === "s") {
    const [factor, name] = SECONDS.find(([, , least]) => size >= least) ?? [1, "s"];
    return { factor, unit: name };
  }
  return { factor: 1, unit: unit ?? "" };
}

/**
 * Say how a value is shown.
 *
 * @returns {{kind: "number"|"boolean"|"text"|"none", text: string, unit: string, exact: string}} `exact` is all of it.
 */
export function describe(value, unit) {
  if (value === null || value === undefined) {
    return { kind: "none", text: "no value", unit: "", exact: "null" };
  }
  if (typeof value === "boolean") {
    return { kind: "boolean", text: value ? "on" : "off", unit: unit ?? "", exact: String(value) };
  }
  if (typeof value === "number") {
    return describeNumber(value, unit);
  }
  const exact = typeof value === "string" ? value : compact(value);
  return { kind: "text", text: shortened(exact), unit: unit ?? "", exact };
}

function describeNumber(value, unit) {
  const exact = [String(value), unit].filter(Boolean).join(" ");
  const size = Math.abs(value);
  if (unit === "s" && size >= 120) {
    return { kind: "number", text: (value < 0 ? MINUS : "") + formatDuration(size), unit: "", exact };
  }
  const scale = scaleFor(size, unit);
  return { kind: "number", text: formatNumber(value / scale.factor), unit: scale.unit, exact };
}

function compact(value) {
  if (typeof value === "object" && Object.keys(value).length === 0) {
    return "empty";
  }
  const lines = JSON.stringify(value, null, 1);
  return lines.replace(/([[{])\n\s*/g, "$1").replace(/\n\s*([\]}])/g, "$1").replace(/\n\s*/g, " ");
}

function shortened(text) {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** Return a span of time in its two largest units: `3 d 4 h`, `2 min 5 s`, `340 ms`. */
export function formatDuration(seconds) {
  if (seconds < 0.9995) {
    return `${fixed(seconds * 1000, 0, seconds < 0.01 ? 1 : 0)} ms`;
  }
  if (seconds < 10) {
    return `${fixed(seconds, 0, 1)} s`;
  }
  const whole = Math.round(seconds);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([length]) => whole >= length);
  const [large, small] = [parts[first], parts[first + 1]];
  const rest = small ? Math.floor((whole % large[0]) / small[0]) : 0;
  const head = `${fixed(Math.floor(whole / large[0]), 0, 0)} ${large[1]}`;
  return rest ? `${head} ${rest} ${small[1]}` : head;
}

/** Return how long ago something was: `just now`, `12 s ago`, `3 h ago`. */
export function formatAge(seconds) {
  return seconds < 2.5 ? "just now" : `${roughly(seconds)} ago`;
}

/** Return when something will be: `now`, `in 12 s`. */
export function formatUntil(seconds) {
  return seconds < 1 ? "now" : `in ${roughly(seconds)}`;
}

function roughly(seconds) {
  const [length, name] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([least]) => seconds >= least) ?? [1, "s"];
  return `${Math.floor(seconds / length)} ${name}`;
}

/** Return a time of the day on this page's clock, with its seconds if they matter. */
export function formatTime(milliseconds, withSeconds = true, withDay = false) {
  const time = new Date(milliseconds);
  const parts = [time.getHours(), time.getMinutes(), ...(withSeconds ? [time.getSeconds()] : [])];
  const clock = parts.map((part) => String(part).padStart(2, "0")).join(":");
  return withDay ? `${time.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${clock}` : clock;
}

/** Return the keys of a path: between slashes, with `%2F` and `%25` for a slash and a percent sign in a key. */
export function keysOf(path) {
  return path.split("/").map((key) => key.replaceAll("%2F", "/").replaceAll("%25", "%"));
}

/** Return a number of things: `1 value`, `3 values`. */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
