/**
 * Time: a clock of this page that never runs backwards, and what it says about the times that the service sends.
 *
 * The clocks of a Pi and of who looks at it may differ by anything. Ages come as seconds and need neither; times of the
 * service are compared with its own clock, which stands in each of its answers.
 */

let ahead = 0;

/** Return the time in milliseconds since 1970, as a clock that is never set. */
export function now() {
  return performance.timeOrigin + performance.now();
}

/** Learn the service's clock from the header `Date` of an answer, which has whole seconds. */
export function learn(date) {
  const sent = Date.parse(date ?? "");
  if (Number.isFinite(sent)) {
    ahead = sent + 500 - now();
  }
}

/** Return the seconds since a time of the service's, negative if it is yet to come, or null without a time. */
export function secondsSince(iso) {
  const time = Date.parse(iso ?? "");
  return Number.isFinite(time) ? (now() + ahead - time) / 1000 : null;
}
