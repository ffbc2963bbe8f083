// A picture seen large, with its recipe and what can be done with it.

import { button, element } from "./elements.js";
import { recipe } from "./recipe.js";
import { ask, here } from "./server.js";

export class Viewer {
  #dialog;
  #content = element("div", { className: "content" });
  #close = this.#way("×", "Close", () => this.#dialog.close());
  #gallery;
  #used;
  #rules = {};
  #image;
  // True where another picture is shown than the one that had the focus before.
  #moved = false;

  // `used` is called with a request whose settings are wanted.
  constructor(dialog, used) {
    this.#dialog = dialog;
    this.#used = used;
    const newer = this.#way("‹", "Newer picture", () => this.#step(-1));
    const older = this.#way("›", "Older picture", () => this.#step(1));
    const ways = element("nav", { ariaLabel: "Other pictures" }, newer, older, this.#close);
    dialog.append(ways, this.#content);
    dialog.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowLeft") this.#step(-1);
      if (key === "ArrowRight") this.#step(1);
    });
    // A press beside the picture and its recipe is on the dialog itself.
    dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
    // The browser gives the focus back to what opened the dialog.
    dialog.addEventListener("close", () => this.#moved && this.#gallery.focus(this.#image));
  }

  set gallery(gallery) {
    this.#gallery = gallery;
  }

  set rules(rules) {
    this.#rules = rules;
  }

  async open(image) {
    this.#moved = this.#dialog.open;
    this.#image = image;
    this.#show(image);
    if (!this.#dialog.open) this.#dialog.showModal();
    const request = await this.#requestOf(image);
    if (this.#image === image) this.#show(image, request);
  }

  // Goes on to the next picture where this one was deleted.
  gone(image) {
    if (!this.#dialog.open || image.filename !== this.#image.filename) return;
    const next = this.#gallery.beside(image, 1) ?? this.#gallery.beside(image, -1);
    this.#moved = true;
    if (next) this.open(next);
    else this.#dialog.close();
  }

  #step(distance) {
    const next = this.#gallery.beside(this.#image, distance);
    if (next) this.open(next);
  }

  // Without its job, the part of its request that the picture's own entry holds.
  async #requestOf(image) {
    try {
      return (await ask("GET", `api/jobs/${image.job_id}`)).request;
    } catch {
      const { prompt, width, height, seed } = image;
      return { prompt, width, height, seed };
    }
  }

  #show(image, request) {
    const { prompt, url, width, height, filename } = image;
    const large = element("img", { src: here(url), alt: prompt, width, height });
    const words = element("div", { className: "words" }, element("p", { className: "prompt" }, prompt));
    if (request?.negative_prompt) {
      words.append(element("p", { className: "negative" }, `Not: ${request.negative_prompt}`));
    }
    const fault = element("p", { className: "fault", role: "alert", hidden: true });
    const use = button("Use these settings", () => this.#use(request), { disabled: !request });
    const link = { href: here(url), download: filename, className: "button" };
    const acts = [use, element("a", link, "Download"), this.#deletion(image, fault)];
    words.append(fault, element("div", { className: "actions" }, ...acts));
    if (request) words.append(recipe(image, request, this.#rules));
    this.#content.replaceChildren(element("div", { className: "large" }, large), words);
    // What had the focus may have been replaced.
    if (this.#dialog.open && !this.#dialog.contains(document.activeElement)) this.#close.focus();
  }

  #way(text, title, act) {
    return button(text, act, { className: "quiet", ariaLabel: title, title });
  }

  #use(request) {
    this.#moved = false;
    this.#dialog.close();
    this.#used(request);
  }

  // Pressed once it asks, pressed again it deletes.
  #deletion(image, fault) {
    const deletion = button("Delete", async () => {
      if (!deletion.classList.contains("sure")) {
        deletion.classList.add("sure");
        deletion.textContent = "Really delete?";
        return;
      }
      try {
        await ask("DELETE", `api/images/${image.filename}`);
      } catch (problem) {
        fault.textContent = problem.message;
        fault.hidden = false;
      }
    });
    return deletion;
  }
}
