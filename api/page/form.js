// The form of a request, made from the schema of the loaded model.

import { button, element } from "./elements.js";
import { Field, isOffered, titleOf } from "./fields.js";
import { loraControl } from "./loras.js";
import { tab } from "./memory.js";

const FIRST = ["width", "height", "steps", "cfg_scale", "sampler", "schedule", "seed", "n"];
const DRAFT = "calotype.draft";
const WIDE = matchMedia("(min-width: 48rem)");

export class RequestForm {
  #form;
  #fields = new Map();
  #model;
  #left = {};
  #fault = element("p", { className: "fault", role: "alert", hidden: true });

  // `submitted` is called with a body that the schema lets pass, `chosen` with the name of another
  // model of the server.
  constructor(form, { submitted, chosen }) {
    this.#form = form;
    this.chosen = chosen;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#check()) submitted(this.body);
    });
    form.addEventListener("keydown", submitOnEnter);
    form.addEventListener("input", () => this.#keepDraft());
  }

  // Shows the fields of a model; what was typed before stays, as far as they take it.
  show(info) {
    const models = info.models ?? [info.model.name];
    const draft = JSON.parse(tab.get(DRAFT) ?? "{}");
    // It was typed for another model that is still served: nothing was taken away.
    if (models.includes(draft.model)) delete draft.model;
    const begun = this.#form.querySelector("#field-prompt");
    const typing = begun === document.activeElement;
    if (begun.value) draft.prompt = begun.value;
    this.#fields = fieldsOf(info);
    this.#model = info.model.name;
    const field = (name) => this.#fields.get(name)?.element ?? "";
    const rest = [...this.#fields.keys()].filter((name) => !isPlaced(name));
    this.#form.replaceChildren(
      this.#choice(models),
      field("prompt"),
      vocabulary(info.model.vocabulary ?? [], this.#fields.get("prompt").input),
      field("negative_prompt"),
      this.#actions(),
      group("Settings", "settings", FIRST.map(field), WIDE.matches),
      this.#fields.has("loras") ? group("LoRAs", "adapters", [field("loras")], WIDE.matches) : "",
      rest.length ? group("More", "rest", rest.map(field), false) : "",
    );
    this.fill(draft);
    if (typing) this.focus();
  }

  // What differs from the model's defaults, and the model where there are several.
  get body() {
    const given = [...this.#fields.values()].filter((field) => !field.isDefault);
    const values = Object.fromEntries(given.map((field) => [field.name, field.value]));
    return this.#form.querySelector("#field-model") ? { ...values, model: this.#model } : values;
  }

  // Takes over a request; what it does not name gets its default. What this model does not take is
  // said, and kept for the model that does.
  fill({ model, ...request }) {
    for (const field of this.#fields.values()) {
      if (field.name in request) field.value = request[field.name];
      else field.reset();
    }
    const left = Object.entries(request).filter(([name, value]) => !this.#holds(name, value));
    this.#left = Object.fromEntries(left);
    const words = left.map(([name]) => titleOf(name));
    if (model && model !== this.#model) words.push(`the model ${model}`);
    this.#tell(words.length ? `Not taken here, and left out: ${words.join(", ")}.` : "");
    this.#keepDraft();
  }

  #holds(name, value) {
    return value === null || same(this.#fields.get(name)?.value, value);
  }

  focus() {
    this.#fields.get("prompt").input.focus();
  }

  // Shows each fault beside its field, and what belongs to none above the button.
  tellProblem(problem) {
    const others = problem.errors.filter(({ pointer, detail }) => {
      const field = this.#fields.get(pointer.split("/")[1]);
      field?.tellFault(detail);
      return !field;
    });
    const told = problem.errors.length ? others.map(({ detail }) => detail).join(" ") : problem.message;
    this.#tell(told);
    this.#focusFault();
  }

  set busy(busy) {
    this.#form.querySelector("button[type=submit]").disabled = busy;
  }

  #choice(names) {
    if (names.length < 2) return "";
    const options = names.map((name) => element("option", { value: name, textContent: name }));
    const select = element("select", { id: "field-model" }, ...options);
    select.value = this.#model;
    select.addEventListener("change", () => this.chosen(select.value));
    const label = element("label", { htmlFor: select.id, textContent: "Model" });
    return element("div", { className: "field" }, label, select);
  }

  #actions() {
    const generate = element("button", { type: "submit", textContent: "Generate" });
    const reset = button("Reset", () => this.fill({ prompt: this.#fields.get("prompt").value }), {
      className: "quiet",
      title: "The model's own settings; the prompt stays",
    });
    return element("div", { className: "actions" }, this.#fault, generate, reset);
  }

  #check() {
    this.#tell("");
    const fields = [...this.#fields.values()];
    const wrong = fields.filter((field) => !field.check());
    const prompt = this.#fields.get("prompt");
    if (prompt.value.trim() === "") {
      prompt.tellFault("Say what the picture shows.");
      wrong.unshift(prompt);
    }
    this.#focusFault();
    return wrong.length === 0;
  }

  #focusFault() {
    const wrong = this.#form.querySelector("[aria-invalid=true]");
    for (let place = wrong?.closest("details"); place; place = place.parentElement.closest("details")) {
      place.open = true;
    }
    wrong?.focus();
  }

  #tell(text) {
    this.#fault.textContent = text;
    this.#fault.hidden = !text;
  }

  #keepDraft() {
    tab.set(DRAFT, JSON.stringify({ ...this.#left, ...this.body }));
  }
}

// True for equal values; of lists, in whatever order.
function same(one, other) {
  const sorted = (value) => value.map((each) => JSON.stringify(each)).sort();
  const text = (value) => JSON.stringify(Array.isArray(value) ? sorted(value) : value);
  return text(one) === text(other);
}

function fieldsOf({ parameters, loras }) {
  const fields = new Map();
  for (const [name, rule] of Object.entries(parameters.properties)) {
    if (!isOffered(rule)) continue;
    const field = name === "loras" ? loraField(rule, loras) : Field.of(name, rule, !isPlaced(name));
    if (field) fields.set(name, field);
  }
  return fields;
}

function loraField(rule, offers) {
  if (!rule.items?.oneOf?.length) return undefined;
  const control = loraControl(rule, offers);
  const field = new Field("loras", rule, control);
  field.element.append(...control.nodes, field.faultElement);
  return field;
}

function isPlaced(name) {
  return FIRST.includes(name) || ["prompt", "negative_prompt", "loras"].includes(name);
}

function group(title, name, children, open) {
  const fields = element("div", { className: "fields" }, ...children);
  return element("details", { open, className: name }, element("summary", {}, title), fields);
}

// The words that a small model knows: each is put into the prompt by a press.
function vocabulary(words, prompt) {
  if (!words.length) return "";
  const add = (word) => {
    const before = prompt.value.trimEnd();
    prompt.value = before ? `${before} ${word}` : `${/^[aeiou]/.test(word) ? "an" : "a"} ${word}`;
    prompt.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const buttons = words.map((word) => element("li", {}, button(word, () => add(word))));
  const summary = element("summary", {}, `What this model can draw: ${words.length} things`);
  return element("details", { className: "words" }, summary, element("ul", {}, ...buttons));
}

// Enter sends the request, also with Ctrl or Cmd, and once however long it is held; Shift+Enter begins
// a line.
function submitOnEnter(event) {
  const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing;
  if (!sends || event.target.tagName !== "TEXTAREA") return;
  event.preventDefault();
  if (!event.repeat) event.currentTarget.requestSubmit();
}
