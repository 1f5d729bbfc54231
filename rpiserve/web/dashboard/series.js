/**
 * The readings of one value since the page opened, in bounded memory.
 *
 * Readings are kept in buckets of lowest, highest and last value. When there are too many, neighbours are merged and
 * the time a bucket covers doubles: a peak is never lost, however long the page stays open.
 */

const LIMIT = 600;

export class Series {
  constructor() {
    /**
     * What was read, oldest first; a `gap` is before its bucket.
     *
     * @type {{time: number, low: number, high: number, last: number, gap: boolean}[]}
     */
    this.buckets = [];
    this._width = 0;
    this._broken = false;
  }

  /** Add a reading of a time in milliseconds. */
  add(time, value) {
    const last = this.buckets.at(-1);
    const gap = this._broken && last !== undefined;
    this._broken = false;
    if (last && !gap && time <= last.time && value === last.last) {
      return;
    }
    if (last && !gap && time - last.time < this._width) {
      Object.assign(last, { low: Math.min(last.low, value), high: Math.max(last.high, value), last: value });
      return;
    }
    this.buckets.push({ time: Math.max(time, last?.time ?? time), low: value, high: value, last: value, gap });
    if (this.buckets.length > LIMIT) {
      this._thin();
    }
  }

  /** Let the line end here: what comes next is not to be joined to it. */
  interrupt() {
    this._broken = true;
  }

  /** Whether the line ends before now. */
  get interrupted() {
    return this._broken;
  }

  /** Return the lowest and the highest value of all, or null if there is none. */
  range() {
    if (this.buckets.length === 0) {
      return null;
    }
    const range = { low: Infinity, high: -Infinity };
    for (const bucket of this.buckets) {
      range.low = Math.min(range.low, bucket.low);
      range.high = Math.max(range.high, bucket.high);
    }
    return range;
  }

  _thin() {
    const merged = [];
    for (let index = 0; index < this.buckets.length; index += 2) {
      merged.push(merge(this.buckets[index], this.buckets[index + 1]));
    }
    this.buckets = merged;
    this._width = (merged.at(-1).time - merged[0].time) / (LIMIT / 2);
  }
}

function merge(first, second) {
  if (second === undefined) {
    return first;
  }
  const [low, high] = [Math.min(first.low, second.low), Math.max(first.high, second.high)];
  return { time: first.time, low, high, last: second.last, gap: first.gap || second.gap };
}
