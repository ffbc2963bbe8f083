// The control of a request's LoRAs: each is ticked, and then has a slider for each of its weights.

import { controlOf } from "./controls.js";
import { element } from "./elements.js";

const MANY = 8;

// A control as those of controls.js. `rule`: the schema's; `offers`: the LoRAs of /api/info.
export function loraControl(rule, offers) {
  const rows = rule.items.oneOf.map((each) => new Row(each, offers));
  const list = element("div", { className: "loras" }, ...rows.map((row) => row.element));
  const byId = new Map(rows.map((row) => [row.id, row]));
  return {
    nodes: rows.length > MANY ? [finder(rows), list] : [list],
    inputs: rows.flatMap((row) => row.inputs),
    read: () => rows.filter((row) => row.tick.checked).map((row) => row.value),
    write: (value) => {
      for (const row of rows) row.value = undefined;
      for (const { id, ...weights } of value ?? []) {
        if (byId.has(id)) byId.get(id).value = weights;
      }
    },
  };
}

class Row {
  #weights;

  constructor(rule, offers) {
    const { id, ...weights } = rule.properties;
    this.id = id.const;
    this.title = rule.title ?? this.id;
    const offer = offers.find((each) => each.id === this.id);
    this.#weights = Object.entries(weights).map(([name, each]) => this.#weight(name, each));
    this.tick = element("input", { type: "checkbox", id: `lora-${this.id}` });
    this.tick.addEventListener("change", () => this.#show());
    const label = element("label", { htmlFor: this.tick.id }, this.title);
    if (this.title !== this.id) label.append(" ", element("code", {}, this.id));
    this.sliders = element("div", { className: "weights" });
    for (const each of this.#weights) this.sliders.append(...each.nodes);
    const parts = [this.tick, label];
    if (offer?.triggers) {
      parts.push(element("p", { className: "hint" }, `Trigger words: ${offer.triggers}`));
    }
    this.element = element("div", { className: "lora" }, ...parts, this.sliders);
    this.#show();
  }

  get inputs() {
    return [this.tick, ...this.#weights.flatMap(({ control }) => control.inputs)];
  }

  get value() {
    const weights = this.#weights.map(({ name, control }) => [name, control.read()]);
    return { id: this.id, ...Object.fromEntries(weights) };
  }

  // Undefined: not used. A weight that is not named has its default.
  set value(weights) {
    this.tick.checked = weights !== undefined;
    for (const { name, rule, control } of this.#weights) control.write(weights?.[name] ?? rule.default);
    this.#show();
  }

  #weight(name, rule) {
    const id = `lora-${this.id}-${name}`;
    const words = name.replaceAll("_", " ");
    const title = `${this.title}, ${words}`;
    const control = controlOf(id, rule, title);
    control.inputs[0].ariaLabel = title;
    control.write(rule.default);
    const label = element("label", { htmlFor: id, textContent: words });
    return { name, rule, control, nodes: [label, ...control.nodes] };
  }

  #show() {
    this.sliders.hidden = !this.tick.checked;
    this.element.classList.toggle("used", this.tick.checked);
  }
}

function finder(rows) {
  const title = "Find a LoRA";
  const input = element("input", { type: "search", placeholder: title, ariaLabel: title });
  input.addEventListener("input", () => {
    const sought = input.value.toLowerCase();
    for (const row of rows) {
      const found = `${row.title} ${row.id}`.toLowerCase().includes(sought);
      row.element.hidden = !found && !row.tick.checked;
    }
  });
  return input;
}
