// Controls for the kinds of values that a schema knows. A control has `nodes` to show, `inputs` to
// check, and reads and writes its value; `first` is what its label names.

import { element } from "./elements.js";

const MOST_OF_A_SLIDER = 5000;

export function types(rule) {
  return [rule.type].flat();
}

// The control of a rule; undefined for a kind that the page does not know.
export function controlOf(id, rule, title) {
  if (rule.enum) return choice(id, rule);
  const kinds = types(rule);
  if (kinds.includes("boolean")) return tick(id, rule);
  if (kinds.includes("integer") || kinds.includes("number")) return number(id, rule, title);
  if (kinds.includes("string")) return text(id, rule);
  if (kinds.includes("array") && rule.maxItems === 2) return pair(id, rule, title);
  return undefined;
}

function choice(id, rule) {
  const options = rule.enum.map((each) => element("option", { value: each, textContent: each }));
  const input = element("select", { id }, ...options);
  return {
    nodes: [input],
    inputs: [input],
    read: () => input.value,
    write: (value) => (input.value = rule.enum.includes(value) ? value : rule.default),
  };
}

function tick(id) {
  const input = element("input", { id, type: "checkbox" });
  return {
    nodes: [input],
    inputs: [input],
    read: () => input.checked,
    write: (value) => (input.checked = value),
  };
}

function text(id, rule) {
  const [placeholder] = (rule.description ?? "").match(/^[^.]*\.?/);
  const input = element("textarea", { id, rows: 1, maxLength: rule.maxLength, placeholder });
  return {
    nodes: [input],
    inputs: [input],
    // The empty text is null where that is the default, and a text where it replaces another.
    read: () => (input.value === "" && rule.default === null ? null : input.value),
    write: (value) => (input.value = value ?? ""),
  };
}

function box(id, rule, properties) {
  const whole = types(rule).includes("integer");
  return element("input", {
    id,
    type: "number",
    min: rule.minimum,
    max: rule.maximum,
    step: whole ? (rule.multipleOf ?? 1) : "any",
    inputMode: whole ? "numeric" : "decimal",
    ...properties,
  });
}

function number(id, rule, title) {
  const nullable = types(rule).includes("null");
  const input = box(id, rule, { required: !nullable, placeholder: nullable ? "random" : "" });
  const slides = !nullable && rule.maximum - rule.minimum <= MOST_OF_A_SLIDER;
  const slider = slides ? sliderBeside(input, rule, title) : undefined;
  return {
    nodes: slider ? [input, slider] : [input],
    inputs: [input],
    read: () => (input.value === "" ? null : input.valueAsNumber),
    write: (value) => {
      input.value = value ?? "";
      if (slider) slider.value = input.value;
    },
  };
}

function sliderBeside(input, rule, title) {
  const whole = types(rule).includes("integer");
  const slider = element("input", {
    type: "range",
    min: rule.minimum,
    max: rule.maximum,
    step: whole ? (rule.multipleOf ?? 1) : rule.maximum - rule.minimum > 5 ? 0.5 : 0.05,
    ariaLabel: `${title}, slider`,
    oninput: () => (input.value = slider.value),
  });
  input.addEventListener("input", () => (slider.value = input.value));
  return slider;
}

function pair(id, rule, title) {
  const from = box(id, rule.items, { placeholder: rule.items.minimum });
  const to = box(`${id}-to`, rule.items, {
    placeholder: rule.items.maximum,
    ariaLabel: `${title}, to`,
  });
  return {
    nodes: [element("span", { className: "pair" }, from, "to", to)],
    inputs: [from, to],
    read: () => {
      if (from.value === "" && to.value === "") return null;
      return [Number(from.value || rule.items.minimum), Number(to.value || rule.items.maximum)];
    },
    write: (value) => {
      from.value = value?.[0] ?? "";
      to.value = value?.[1] ?? "";
    },
  };
}
