// A picture's recipe in words.

import { element } from "./elements.js";
import { titleOf } from "./fields.js";

const ALWAYS = new Set(["steps", "cfg_scale", "sampler", "schedule", "seed"]);
const TOLD_APART = new Set(["prompt", "negative_prompt", "width", "height", "loras", "model"]);

// `request`: the job's complete one; `rules`: the schema's, whose defaults are left out.
export function recipe(image, request, rules) {
  const rows = [["Size", `${image.width} × ${image.height}`]];
  for (const [name, value] of Object.entries(request)) {
    if (TOLD_APART.has(name) || value === null) continue;
    const usual = JSON.stringify(value) === JSON.stringify(rules[name]?.default);
    if (ALWAYS.has(name) || !usual) rows.push([titleOf(name), [value].flat().join(" to ")]);
  }
  for (const { id, weight } of request.loras ?? []) rows.push(["LoRA", `${id}, weight ${weight}`]);
  rows.push(["Model", image.model], ["Drawn", new Date(image.created_at).toLocaleString()]);
  rows.push(["File", `${image.filename.split(".").at(-1)}, ${kilobytes(image.size_bytes)}`]);
  return element("dl", {}, ...rows.flatMap(([name, text]) => [
    element("dt", { textContent: name }),
    element("dd", { textContent: text }),
  ]));
}

function kilobytes(bytes) {
  return `${Math.max(1, Math.round(bytes / 1000)).toLocaleString()} kB`;
}
