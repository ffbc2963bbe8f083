// The line that says when the server is away, and when it is back.

const BACK_MILLISECONDS = 4000;

export class Connection {
  #line;
  #away = false;
  #timer;

  // `returned` is called when the server answers again.
  constructor(line, returned) {
    this.#line = line;
    this.returned = returned;
  }

  lost(sentence = "The server does not answer. Trying again…") {
    clearTimeout(this.#timer);
    this.#away = true;
    this.#line.className = "away";
    this.#line.textContent = sentence;
  }

  found() {
    if (!this.#away) return;
    this.#away = false;
    this.#line.className = "back";
    this.#line.textContent = "The server is back.";
    this.#timer = setTimeout(() => (this.#line.textContent = ""), BACK_MILLISECONDS);
    this.returned();
  }
}
