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
      found: () => connection.found(),
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

  // Takes over the newest page: what was missed while the stream was away comes and goes.
  async #catchUp() {
    const page = await this.#read("");
    if (!page) return;
    const there = new Set(page.images.map((image) => image.filename));
    const oldest = page.next_cursor ? timeOf(page.images.at(-1)) : -Infinity;
    for (const { image } of [...this.#tiles.values()]) {
      if (timeOf(image) >= oldest && !there.has(image.filename)) this.#remove(image.filename);
    }
    const first = this.#tiles.size === 0;
    for (const image of page.images) this.#add(image);
    if (first) this.#continueAt(page.next_cursor);
    this.#showEmpty();
  }

  async #loadMore() {
    if (!this.#cursor) return;
    const cursor = this.#cursor;
    this.#cursor = null;
    const page = await this.#read(`&cursor=${encodeURIComponent(cursor)}`);
    for (const image of page?.images ?? []) this.#add(image);
    this.#continueAt(page ? page.next_cursor : cursor);
  }

  #continueAt(cursor) {
    this.#cursor = cursor;
    this.#more.hidden = !cursor;
    this.#watcher.disconnect();
    if (cursor) this.#watcher.observe(this.#more);
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
    this.#empty.hidden = this.#tiles.size > 0;
  }
}

function timeOf(image) {
  return Date.parse(image.created_at);
}
