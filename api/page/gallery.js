// The gallery: the newest pictures, more on scrolling, and what comes and goes meanwhile.

import { element } from "./elements.js";
import { ask, here } from "./server.js";
import { follow } from "./stream.js";

const PAGE = 60;

export class Gallery {
  #list;
  #more;
  #empty;
  #opened;
  #tiles = new Map();
  #cursor = null;
  #watcher = new IntersectionObserver((seen) => seen[0].isIntersecting && this.#loadMore(), {
    rootMargin: "400px",
  });

  // `opened` is called with a picture that is to be seen large, `gone` with one that was deleted.
  constructor({ list, more, empty, connection, opened, gone }) {
    this.#list = list;
    this.#more = more;
    this.#empty = empty;
    this.#opened = opened;
    this.gone = gone;
    more.onclick = () => this.#loadMore();
    this.#follow(connection);
  }

  // The picture before (-1) or after (1) one; undefined at an end.
  beside(image, distance) {
    const tile = this.#tiles.get(image.filename)?.element;
    const next = distance < 0 ? tile?.previousElementSibling : tile?.nextElementSibling;
    return this.#tiles.get(next?.dataset.filename)?.image;
  }

  focus(image) {
    const tile = this.#tiles.get(image?.filename) ?? this.#tiles.values().next().value;
    tile?.element.firstElementChild.focus();
  }

  #follow(connection) {
    follow(here("/api/sse/gallery"), {
      told: (event) => {
        if (event.event === "snapshot") this.#catchUp();
        if (event.event === "image") this.#add(event.image);
        if (event.event === "deleted") this.#remove(event.filename);
      },
      lost: () => connection.lost(),
      found: () => {
        connection.found();
        this.#watch();
      },
      refused: () => this.#mayTryAgain(connection),
    });
  }

  // A caller without a key is refused until there is one, and the page is loaded anew.
  async #mayTryAgain(connection) {
    try {
      await ask("GET", "api/images?limit=1");
      return true;
    } catch ({ status, message }) {
      connection.lost(message);
      return status !== 401;
    }
  }

  // Takes over the newest page, and those down to the oldest tile: what was missed while the stream
  // was away comes and goes, however much it is.
  async #catchUp() {
    const before = [...this.#tiles.values()].map(({ image }) => image);
    const end = Math.min(...before.map(timeOf));
    const there = new Set();
    let reached = Infinity;
    let cursor = null;
    do {
      const page = await this.#read(cursor ? `&cursor=${encodeURIComponent(cursor)}` : "");
      if (!page) return;
      cursor = page.next_cursor;
      for (const image of page.images) {
        there.add(image.filename);
        this.#add(image);
        reached = timeOf(image);
      }
    } while (cursor && reached > end);
    for (const image of before) {
      const passed = !cursor || timeOf(image) >= reached;
      if (passed && !there.has(image.filename)) this.#remove(image.filename);
    }
    this.#continueAt(cursor);
  }

  async #loadMore() {
    if (!this.#cursor) return;
    const cursor = this.#cursor;
    this.#cursor = null;
    const page = await this.#read(`&cursor=${encodeURIComponent(cursor)}`);
    for (const image of page?.images ?? []) this.#add(image);
    if (page) this.#continueAt(page.next_cursor);
    // A watched button would be pressed again at once: it waits for a hand, or for the stream.
    else this.#cursor = cursor;
  }

  #continueAt(cursor) {
    this.#cursor = cursor;
    this.#more.hidden = !cursor;
    this.#watch();
    this.#showEmpty();
  }

  // Begun anew, it also tells of a button that has been in sight all the while.
  #watch() {
    this.#watcher.disconnect();
    if (this.#cursor) this.#watcher.observe(this.#more);
  }

  // A page; undefined where there is none now: the stream tells why.
  async #read(cursor) {
    try {
      return await ask("GET", `api/images?limit=${PAGE}${cursor}`);
    } catch {
      return undefined;
    }
  }

  #add(image) {
    if (this.#tiles.has(image.filename)) return;
    const thumbnail = element("img", {
      src: here(image.thumb_url),
      alt: image.prompt,
      loading: "lazy",
      width: image.width,
      height: image.height,
    });
    const open = element("button", { type: "button", onclick: () => this.#opened(image) }, thumbnail);
    const tile = element("li", {}, open);
    tile.dataset.filename = image.filename;
    this.#list.insertBefore(tile, this.#placeFor(image));
    this.#tiles.set(image.filename, { image, element: tile });
    this.#showEmpty();
  }

  // The first tile of an older picture; null at the end.
  #placeFor(image) {
    const time = timeOf(image);
    const last = this.#list.lastElementChild;
    if (!last || timeOf(this.#tiles.get(last.dataset.filename).image) >= time) return null;
    const imageOf = (tile) => this.#tiles.get(tile.dataset.filename).image;
    return [...this.#list.children].find((tile) => timeOf(imageOf(tile)) < time);
  }

  #remove(filename) {
    const tile = this.#tiles.get(filename);
    if (!tile) return;
    this.gone(tile.image);
    tile.element.remove();
    this.#tiles.delete(filename);
    this.#showEmpty();
  }

  #showEmpty() {
    this.#empty.hidden = this.#tiles.size > 0 || this.#cursor !== null;
  }
}

function timeOf(image) {
  return Date.parse(image.created_at);
}
