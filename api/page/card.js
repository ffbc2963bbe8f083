// A job on the stage: its picture as it takes shape, how far it is, and what became of it.

import { button, element, tell } from "./elements.js";
import { ask, here } from "./server.js";

export class Card {
  #picture = element("img", { alt: "" });
  #frame = element("button", { type: "button", className: "frame", disabled: true }, this.#picture);
  #prompt = element("p", { className: "prompt" });
  #facts = element("p", { className: "facts" });
  #bar = element("progress", { max: 1, value: 0, ariaLabel: "Progress" });
  #state = element("p", { className: "state", textContent: "Waiting" });
  #notes = element("ul", { className: "notes" });
  #cancel = button("Cancel", () => this.#askToCancel(), { className: "quiet" });
  #heard = "";

  // `ended` is called when the job is over; `opened` with the picture that is to be seen large.
  constructor(id, { ended, opened }) {
    this.id = id;
    this.ended = false;
    this.#frame.onclick = () => opened(this.image);
    this.onended = ended;
    const foot = element("div", { className: "foot" }, this.#state, this.#cancel);
    const words = [this.#prompt, this.#facts, this.#bar, foot, this.#notes];
    const beside = element("div", { className: "words" }, ...words);
    this.element = element("li", { className: "card" }, this.#frame, beside);
  }

  // Reads what the stream does not tell: the request and its warnings. False without a key.
  async read() {
    try {
      this.#show(await ask("GET", `api/jobs/${this.id}`));
    } catch ({ status }) {
      if (status === 404) this.#end("gone", "This job is gone from the server.");
      return status !== 401;
    }
    return true;
  }

  #show(job) {
    const { prompt, width, height } = job.request;
    this.#prompt.textContent = prompt;
    this.#facts.textContent = facts(job.request);
    this.#picture.style.aspectRatio = `${width} / ${height}`;
    this.#picture.alt = `The picture of: ${prompt}`;
    this.#notes.replaceChildren(...job.warnings.map((text) => element("li", { textContent: text })));
    this.tell(job);
  }

  // Takes over an event of the job's stream, or the job itself.
  tell(event) {
    if (this.ended) return;
    if (event.status === "queued") this.#wait(event.queue_position);
    if (event.status === "processing") this.#proceed(event);
    if (event.status === "completed") this.#complete(event.image);
    if (event.status === "failed") this.#end("failed", `${event.error.title}: ${event.error.detail}`);
    if (event.status === "canceled") this.#end("canceled", "Canceled");
  }

  #wait(position) {
    const place = position === 1 ? "next" : `place ${position}`;
    this.#say(position === null ? "Waiting" : `Waiting: ${place} in the queue`, "Waiting");
  }

  #proceed({ step, total_steps: total, preview }) {
    this.#bar.max = total || 1;
    this.#bar.value = step;
    if (preview) this.#picture.src = preview;
    this.#say(step ? `Step ${step} of ${total}` : "Starting", "Drawing");
  }

  #complete(image) {
    if (!image) {
      this.#end("gone", "The picture has been deleted.");
      return;
    }
    this.image = image;
    this.#picture.src = here(image.url);
    this.#frame.disabled = false;
    const open = button("Open", this.#frame.onclick, { className: "quiet" });
    this.#cancel.before(open);
    this.#end("completed", "Finished", open);
  }

  // `next` is what gets the focus if Cancel had it.
  #end(kind, text, next) {
    const focused = this.#cancel === document.activeElement;
    this.ended = true;
    this.element.classList.add(kind);
    this.#say(text, text);
    this.#bar.remove();
    this.#cancel.remove();
    if (focused) (next ?? document.querySelector("#request textarea")).focus();
    this.onended();
  }

  async #askToCancel() {
    try {
      this.tell(await ask("DELETE", `api/jobs/${this.id}`));
      this.#cancel.textContent = "Canceling…";
    } catch (problem) {
      // 409: it ended meanwhile, which the stream tells.
      if (problem.status !== 409) this.#state.textContent = problem.message;
    }
  }

  // What is heard changes with the status alone, and not with every step.
  #say(text, heard) {
    this.#state.textContent = text;
    if (this.#heard !== heard) tell(heard);
    this.#heard = heard;
  }
}

function facts({ width, height, steps, sampler, seed, loras = [] }) {
  const used = loras.map(({ id, weight }) => `${id} ${weight}`);
  return [`${width} × ${height}`, `${steps} steps`, sampler, `seed ${seed}`, ...used].join(" · ");
}
