/**
 * Line charts as SVG: a small one without labels for a tile, a large one with axes for the dialog.
 *
 * A line ends where there was no good reading; a bucket of several readings is drawn as its whole span.
 */

import { svg, setAttribute } from "./dom.js";
import { formatFixed, formatNumber, formatTime, scaleFor } from "./format.js";

const SMALL = { width: 120, height: 36, edge: 4 };
const MARGIN = { top: 12, right: 34, bottom: 28, left: 64 };
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** A chart the size of a thumbnail, which stretches to where it stands. */
export class SmallChart {
  constructor() {
    this._area = svg("path", { class: "area" });
    this._line = svg("path", { class: "line" });
    this._dot = svg("path", { class: "dot" });
    const viewBox = `0 0 ${SMALL.width} ${SMALL.height}`;
    const attributes = { class: "small-chart", viewBox, preserveAspectRatio: "none", "aria-hidden": "true" };
    this.element = svg("svg", attributes, this._area, this._line, this._dot);
  }

  /** Draw what a series holds by now. */
  draw(series) {
    const { buckets } = series;
    const range = padded(series.range());
    const [first, last] = [buckets[0].time, buckets.at(-1).time];
    const x = scale(first, last, 0, SMALL.width - SMALL.edge);
    const y = scale(range.low, range.high, SMALL.height - SMALL.edge, SMALL.edge);
    const lines = runs(buckets, x, y);
    if (first === last) {
      lines[0] = [[0, lines[0][0][1]], [SMALL.width - SMALL.edge, lines[0][0][1]]];
    }
    setAttribute(this._line, "d", lines.map(lineOf).join(""));
    const [endX, endY] = lines.at(-1).at(-1);
    lines.at(-1).push([SMALL.width, endY]);
    setAttribute(this._area, "d", lines.map((line) => areaOf(line, SMALL.height)).join(""));
    setAttribute(this._dot, "d", `M${short(endX)} ${short(endY)}h0`);
  }
}

/**
 * Draw the large chart of a series.
 *
 * @param {Series} series what to draw; it has at least one reading.
 * @param {string|null} unit of its values.
 * @param {number} width of the picture in pixels, and its `height`.
 * @param {number} end the time at its right edge.
 * @returns {{element: SVGElement, nearest: function(number): {x: number, y: number, bucket: Object}}} the picture, and
 *     which reading is nearest to an x in it.
 */
export function largeChart(series, unit, width, height, end) {
  const { buckets } = series;
  const range = padded(series.range());
  const units = scaleFor(Math.max(Math.abs(range.low), Math.abs(range.high)), unit);
  const ticks = valueTicks(range.low / units.factor, range.high / units.factor, Math.max(2, Math.floor(height / 60)));
  const start = Math.min(buckets[0].time, end - 1000);
  const x = scale(start, end, MARGIN.left, width - MARGIN.right);
  const y = scale(range.low, range.high, height - MARGIN.bottom, MARGIN.top);

  const lines = runs(buckets, x, y);
  if (!series.interrupted) {
    lines.at(-1).push([x(end), y(buckets.at(-1).last)]);
  }
  const element = svg(
    "svg",
    { class: "large-chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": "detail-title" },
    ...ticks.values.map((value) => valueLine(y(value * units.factor), formatFixed(value, ticks.decimals), width)),
    ...timeTicks(start, end, Math.max(2, Math.floor(width / 110))).map((tick) => timeLine(x(tick.time), tick, height)),
    svg("text", { class: "axis-unit", x: MARGIN.left + 6, y: MARGIN.top + 2 }, units.unit),
    svg("path", { class: "area", d: lines.map((line) => areaOf(line, height - MARGIN.bottom)).join("") }),
    svg("path", { class: "line", d: lines.map(lineOf).join("") }),
  );
  return { element, nearest: (position) => nearest(buckets, x, y, position) };
}

function valueLine(y, label, width) {
  return svg(
    "g",
    { class: "grid" },
    svg("path", { d: `M${MARGIN.left} ${short(y)}H${width - MARGIN.right}` }),
    svg("text", { x: MARGIN.left - 8, y: short(y), "text-anchor": "end", "dominant-baseline": "central" }, label),
  );
}

function timeLine(x, tick, height) {
  return svg(
    "g",
    { class: "grid" },
    svg("path", { d: `M${short(x)} ${height - MARGIN.bottom}v5` }),
    svg("text", { x: short(x), y: height - MARGIN.bottom + 20, "text-anchor": "middle" }, tick.label),
  );
}

function nearest(buckets, x, y, position) {
  let best = buckets[0];
  for (const bucket of buckets) {
    if (Math.abs(x(bucket.time) - position) < Math.abs(x(best.time) - position)) {
      best = bucket;
    }
  }
  return { x: x(best.time), y: y(best.last), bucket: best };
}

/** Give a range some room; one of a single value gets some around it, so that its line is in the middle. */
function padded({ low, high }) {
  const room = high > low ? high * 0.08 - low * 0.08 : Math.abs(low) * 0.05 || 1;
  return { low: Math.max(low - room, -Number.MAX_VALUE), high: Math.min(high + room, Number.MAX_VALUE) };
}

/** Return what places a value in a range; halves, since the span of the largest numbers is no number. */
function scale(from, to, first, last) {
  const span = to / 2 - from / 2 || 1;
  return (value) => first + ((value / 2 - from / 2) / span) * (last - first);
}

function runs(buckets, x, y) {
  const lines = [];
  for (const { time, low, high, last, gap } of buckets) {
    if (gap || lines.length === 0) {
      lines.push([]);
    }
    const values = low === high ? [last] : [low, high, last];
    lines.at(-1).push(...values.map((value) => [x(time), y(value)]));
  }
  return lines;
}

function lineOf(points) {
  const [[firstX, firstY]] = points;
  const rest = points.slice(1).map(([x, y]) => `L${short(x)} ${short(y)}`);
  return `M${short(firstX)} ${short(firstY)}${rest.join("") || "h0"}`;
}

function areaOf(points, base) {
  return `${lineOf(points)}L${short(points.at(-1)[0])} ${base}L${short(points[0][0])} ${base}Z`;
}

function short(number) {
  return Math.round(number * 10) / 10;
}

/** Return round values that divide a range into about so many parts, and how many decimals tell them apart. */
function valueTicks(low, high, parts) {
  const rough = (high - low) / parts;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const values = [];
  for (let index = Math.ceil(low / step); index * step <= high && values.length < 30; index += 1) {
    values.push(index * step);
  }
  return { values, decimals: Math.min(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), 12) };
}

/** Return round times of the day between two times, with their labels. */
function timeTicks(start, end, parts) {
  const rough = (end - start) / 1000 / parts;
  const step = (TIME_STEPS.find((seconds) => seconds >= rough) ?? Math.ceil(rough / 86400) * 86400) * 1000;
  const offset = new Date(end).getTimezoneOffset() * 60000;
  const ticks = [];
  for (let time = Math.ceil((start - offset) / step) * step + offset; time <= end; time += step) {
    ticks.push({ time, label: formatTime(time, step < 60000, end - start > 86400000) });
  }
  return ticks;
}

/** Say what a series did, in words: its latest, lowest, highest value and since when. */
export function summaryOf(series, unit) {
  const range = series.range();
  const write = (value) => {
    const units = scaleFor(Math.abs(value), unit);
    const number = units.factor === 1 ? formatNumber(value) : formatFixed(value / units.factor, 3);
    return [number, units.unit].filter(Boolean).join(" ");
  };
  return [
    ["Latest", write(series.buckets.at(-1).last)],
    ["Lowest", write(range.low)],
    ["Highest", write(range.high)],
    ["Since", formatTime(series.buckets[0].time)],
  ];
}
