/**
 * The stream of events, kept open for as long as the page is: lost connections are found again.
 *
 * A browser reconnects by itself when a connection breaks, but gives up for good after an answer such as 503, and does
 * not see at all that a machine has lost its power. The one is answered by a new stream after a growing pause, the
 * other by `doubt`, to be called by whoever hears nothing from the service by other ways.
 */

import { now } from "./clock.js";

const SHORTEST_PAUSE = 1000;
const LONGEST_PAUSE = 15000;
const SILENCE = 8000;

export class Stream {
  /**
   * @param {string} url where the events come from.
   * @param {Object<string, function(Object)>} listeners by type of event, what is done with its data.
   * @param {function("live"|"lost")} changed is told when the connection is found and lost.
   * @param {function()} refused is called when the service seems to be there, but gives no stream.
   */
  constructor(url, listeners, changed, refused) {
    this._url = url;
    this._listeners = listeners;
    this._changed = changed;
    this._refused = refused;
    this._state = "connecting";
    this._pause = SHORTEST_PAUSE;
    this._timer = null;
    this._heard = 0;
    this._open();
    window.addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => this.hurry());
  }

  /** Give up a connection that seems dead, unless something came by it just now, and try for a new one. */
  doubt() {
    if (this._timer === null && now() - this._heard > SILENCE) {
      this._source.close();
      this._retryLater();
    }
  }

  /** Try now instead of at the end of a pause: somebody looks, or the network is back. */
  hurry() {
    if (this._timer !== null && !document.hidden) {
      this._open();
    }
  }

  _open() {
    clearTimeout(this._timer);
    this._timer = null;
    const source = new EventSource(this._url);
    this._source = source;
    for (const [type, listener] of Object.entries(this._listeners)) {
      source.addEventListener(type, (event) => {
        this._pause = SHORTEST_PAUSE;
        this._heard = now();
        listener(JSON.parse(event.data));
      });
    }
    source.addEventListener("open", () => this._become("live"));
    source.addEventListener("error", () => this._failed(source));
  }

  _failed(source) {
    this._become("lost");
    if (source === this._source && source.readyState === EventSource.CLOSED && this._timer === null) {
      this._retryLater();
      this._refused();
    }
  }

  _retryLater() {
    this._become("lost");
    this._timer = setTimeout(() => this._open(), this._pause);
    this._pause = Math.min(this._pause * 2, LONGEST_PAUSE);
  }

  _become(state) {
    if (this._state !== state) {
      this._state = state;
      this._changed(state);
    }
  }
}
