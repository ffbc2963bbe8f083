// The jobs that this page submitted. Those that have not ended are remembered over a reload.

import { Card } from "./card.js";

const JOBS = "calotype.jobs";
// A browser has six connections to a server: one is the gallery's, the rest for pictures.
const MOST_STREAMS = 3;

export class Stage {
  #list;
  #cards = [];
  #opened;

  constructor(list, opened) {
    this.#list = list;
    this.#opened = opened;
    for (const id of JSON.parse(sessionStorage.getItem(JOBS) ?? "[]")) this.#add(id);
    this.#attend();
  }

  // Shows new jobs in the place of those that have ended.
  show(ids) {
    for (const card of this.#cards.filter((each) => each.ended)) card.element.remove();
    this.#cards = this.#cards.filter((each) => !each.ended);
    for (const id of ids) this.#add(id);
    this.#attend();
    this.#cards.at(-ids.length).element.scrollIntoView({ block: "nearest" });
  }

  #add(id) {
    const card = new Card(id, { ended: () => this.#attend(), opened: this.#opened });
    this.#cards.push(card);
    this.#list.append(card.element);
    card.read();
  }

  #attend() {
    const open = this.#cards.filter((card) => !card.ended);
    sessionStorage.setItem(JOBS, JSON.stringify(open.map((card) => card.id)));
    for (const card of open.slice(0, MOST_STREAMS)) if (!card.isFollowed) card.follow();
  }
}
