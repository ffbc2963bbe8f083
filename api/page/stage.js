// What this page asked for. What has not ended is remembered over a reload.

import { Card } from "./card.js";
import { tab } from "./memory.js";
import { here } from "./server.js";
import { follow } from "./stream.js";

const ORDERS = "calotype.orders";
// A browser has six connections to a server: one is the gallery's, some are for pictures.
const MOST_STREAMS = 3;

export class Stage {
  #list;
  #opened;
  #orders = [];

  constructor(list, opened) {
    this.#list = list;
    this.#opened = opened;
    for (const order of JSON.parse(tab.get(ORDERS) ?? "[]")) this.#add(order);
    this.#attend();
  }

  // Shows an order, `{address, ids}`: its stream and its jobs. Those that have ended make room.
  show(order) {
    for (const each of this.#orders.filter(({ ended }) => ended)) each.remove();
    this.#orders = this.#orders.filter(({ ended }) => !ended);
    this.#add(order);
    this.#attend();
    this.#orders.at(-1).cards[0].element.scrollIntoView({ block: "nearest" });
  }

  #add({ address, ids }) {
    const order = new Order(address);
    order.cards = ids.map((id) => new Card(id, { ended: () => this.#attend(), opened: this.#opened }));
    this.#orders.push(order);
    for (const card of order.cards) {
      this.#list.append(card.element);
      card.read();
    }
  }

  #attend() {
    const open = this.#orders.filter(({ ended }) => !ended);
    const kept = open.map(({ address, cards }) => ({ address, ids: cards.map(({ id }) => id) }));
    tab.set(ORDERS, JSON.stringify(kept));
    for (const order of this.#orders) if (order.ended) order.leave();
    for (const order of open.slice(0, MOST_STREAMS)) order.follow();
  }
}

class Order {
  #stop;

  constructor(address) {
    this.address = address;
    this.cards = [];
  }

  get ended() {
    return this.cards.every((card) => card.ended);
  }

  // The events of a batch name their job, those of a job do not.
  follow() {
    const cardOf = (id) => this.cards.find((card) => card.id === (id ?? card.id));
    this.#stop ??= follow(here(this.address), {
      told: ({ job_id: id, ...event }) => cardOf(id).tell(event),
      refused: async () => {
        const read = await Promise.all(this.cards.map((card) => card.read()));
        return read.every(Boolean) && !this.ended;
      },
    });
  }

  leave() {
    this.#stop?.();
  }

  remove() {
    for (const card of this.cards) card.element.remove();
  }
}
