// A field of the request: a control with its label, its explanation and its fault.

import { controlOf } from "./controls.js";
import { element } from "./elements.js";

const TITLES = { cfg_scale: "Guidance", clip_skip: "CLIP skip", loras: "LoRAs", n: "Pictures" };

export function titleOf(name) {
  const words = name.replaceAll("_", " ");
  return TITLES[name] ?? words[0].toUpperCase() + words.slice(1);
}

// False for what the model refuses, and for what has one value alone.
export function isOffered(rule) {
  const single = rule.enum?.length === 1 || ("minimum" in rule && rule.minimum === rule.maximum);
  return !("x-refusal" in rule) && !single;
}

export class Field {
  #control;
  #rule;
  #fault;

  constructor(name, rule, control) {
    this.name = name;
    this.#rule = rule;
    this.#control = control;
    this.#fault = element("p", { id: `${name}-fault`, className: "fault", hidden: true });
    this.element = element("div", { className: "field" });
    this.element.dataset.name = name;
    for (const input of control.inputs) {
      input.setAttribute("aria-describedby", this.#fault.id);
      input.addEventListener("input", () => this.tellFault(""));
      input.addEventListener("change", () => this.check());
    }
    this.reset();
  }

  // The field of a rule with its label; undefined for a kind that the page does not know.
  static of(name, rule, explained) {
    const id = `field-${name}`;
    const control = controlOf(id, rule, titleOf(name));
    if (!control) return undefined;
    const field = new Field(name, rule, control);
    const label = element("label", { htmlFor: id, textContent: titleOf(name) });
    label.title = rule.description ?? "";
    field.element.append(label, ...control.nodes);
    if (explained && rule.description) {
      const hint = element("p", { id: `${id}-hint`, className: "hint", textContent: rule.description });
      control.inputs[0].setAttribute("aria-describedby", `${hint.id} ${field.#fault.id}`);
      field.element.append(hint);
    }
    field.element.append(field.#fault);
    return field;
  }

  get value() {
    return this.#control.read();
  }

  set value(value) {
    this.#control.write(value);
    this.tellFault("");
  }

  get isDefault() {
    return JSON.stringify(this.value) === JSON.stringify(this.#rule.default);
  }

  get input() {
    return this.#control.inputs[0];
  }

  get faultElement() {
    return this.#fault;
  }

  reset() {
    this.value = structuredClone(this.#rule.default ?? null);
  }

  // True for a value that can be sent; else its fault is shown, in the browser's words.
  check() {
    const wrong = this.#control.inputs.find((input) => !input.checkValidity());
    this.tellFault(wrong ? wrong.validationMessage : "");
    return !wrong;
  }

  tellFault(text) {
    this.#fault.textContent = text;
    this.#fault.hidden = !text;
    for (const input of this.#control.inputs) input.ariaInvalid = text ? "true" : null;
  }
}
