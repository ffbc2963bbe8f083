// Puts the page together.

import { Connection } from "./connection.js";
import { RequestForm } from "./form.js";
import { Gallery } from "./gallery.js";
import { tab } from "./memory.js";
import { ask } from "./server.js";
import { watchSession } from "./session.js";
import { Stage } from "./stage.js";
import { Viewer } from "./viewer.js";

const LOADING_MILLISECONDS = 1000;
const MODEL = "calotype.model";

const place = (id) => document.getElementById(id);

function start() {
  watchSession(place("key"), place("sign-out"));
  const form = new RequestForm(place("request"), { submitted: submit, chosen: choose });
  const viewer = new Viewer(place("viewer"), use);
  const stage = new Stage(place("stage"), (image) => viewer.open(image));
  const connection = new Connection(place("connection"), learn);
  viewer.gallery = new Gallery({
    list: place("gallery"),
    more: place("more"),
    empty: place("empty"),
    connection,
    opened: (image) => viewer.open(image),
    gone: (image) => viewer.gone(image),
  });
  let shown = "";
  let order = {};
  learn();
  document.addEventListener("visibilitychange", () => document.hidden || learn());

  // The server may have come back with another model, or with other LoRAs.
  async function learn() {
    let info;
    try {
      info = await describe();
    } catch (problem) {
      place("model").textContent = problem.message;
      return;
    }
    name(info);
    const described = JSON.stringify([info.model, info.models, info.parameters, info.loras]);
    if (described === shown) return;
    shown = described;
    viewer.rules = info.parameters.properties;
    form.show(info);
  }

  function name({ model, models, engine }) {
    // One of several is loaded when a picture wants it.
    const loading = engine.backend === null && !(models?.length > 1);
    const where = engine.device ? ` on ${engine.device}` : "";
    place("model").textContent = model.name + (loading ? " is being loaded…" : where);
    place("model").title = engine.note;
    if (loading) setTimeout(learn, LOADING_MILLISECONDS);
  }

  async function choose(model) {
    tab.set(MODEL, model);
    await learn();
  }

  // The same body sent again keeps its key: a request whose answer was lost makes no second picture.
  async function submit(body) {
    const text = JSON.stringify(body);
    if (order.text !== text) order = { text, key: randomKey() };
    form.busy = true;
    try {
      const headers = { "Idempotency-Key": order.key };
      const accepted = await ask("POST", "api/generate", { body, headers });
      order = {};
      const ids = (accepted.jobs ?? [accepted]).map((job) => job.job_id);
      stage.show({ address: accepted.events_url, ids });
    } catch (problem) {
      form.tellProblem(problem);
    } finally {
      form.busy = false;
    }
  }

  async function use(request) {
    if (request.model) await choose(request.model);
    form.fill(request);
    form.focus();
  }
}

// The model that was chosen in this tab, or the server's first where it is served no more.
async function describe() {
  const model = tab.get(MODEL);
  if (!model) return ask("GET", "api/info");
  try {
    return await ask("GET", `api/info?model=${encodeURIComponent(model)}`);
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    tab.forget(MODEL);
    return describe();
  }
}

function randomKey() {
  const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
  return bytes.map((each) => each.toString(16).padStart(2, "0")).join("");
}

start();
