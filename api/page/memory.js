// What the page remembers in the browser. Where its storage is refused or full, the page draws all
// the same, and forgets.

class Memory {
  #storage;

  // `storage` gives the browser's; even to ask for it may be refused.
  constructor(storage) {
    this.#storage = storage;
  }

  get(name) {
    try {
      return this.#storage().getItem(name);
    } catch {
      return null;
    }
  }

  set(name, text) {
    try {
      this.#storage().setItem(name, text);
    } catch {
      // Nothing is kept.
    }
  }

  forget(name) {
    try {
      this.#storage().removeItem(name);
    } catch {
      // Nothing was kept.
    }
  }
}

export const tab = new Memory(() => sessionStorage);
export const browser = new Memory(() => localStorage);
