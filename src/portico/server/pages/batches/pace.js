// How fast a batch goes, and until when. Pure: what the server counted in, numbers out; times in seconds.

const WINDOW = 60; // that the pace of now is taken over
const LEAST = 1.5; // below it a pace is none yet

export const doneOf = (batch) => batch.succeeded + batch.errored + batch.cancelled + batch.expired;

/** The lines of one batch that were done at some moments. */
export class Pace {
  #seen = [];

  /** So it was at the server's time `now`. */
  see(now, batch) {
    this.#seen.push({ now, done: doneOf(batch) });
    while (this.#seen.length > 2 && this.#seen[1].now <= now - WINDOW) this.#seen.shift();
  }

  /** Lines per minute over the last minute, null as long as nobody knows. */
  get current() {
    const [first, last] = [this.#seen[0], this.#seen.at(-1)];
    return last && last.now - first.now >= LEAST ? (60 * (last.done - first.done)) / (last.now - first.now) : null;
  }
}

/** Lines per minute since it began, until its end where that has come; null before. */
export function average(batch, now) {
  const seconds = (batch.ended_at ?? now) - batch.began_at;
  return batch.began_at === null || seconds <= 0 ? null : (60 * (batch.succeeded + batch.errored)) / seconds;
}

/** When it will have ended at that pace, null where nothing says so. */
export function estimated(batch, now, perMinute) {
  const left = batch.total - doneOf(batch);
  return perMinute && left > 0 ? now + (60 * left) / perMinute : null;
}

/** Lines per minute as people say them. */
export function perMinute(pace) {
  if (pace === null) return "–";
  return pace > 0 && pace < 10 ? pace.toFixed(1) : Math.round(pace).toLocaleString("en");
}

/** Seconds as people say them who wait: 40 s, 12 min, 3 h 20 min. */
export function span(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}
