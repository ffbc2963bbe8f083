// Puts the page together.

import { Connection } from "./connection.js";
import { RequestForm } from "./form.js";
import { Gallery } from "./gallery.js";
import { ask } from "./server.js";
import { watchSession } from "./session.js";
import { Stage } from "./stage.js";
import { Viewer } from "./viewer.js";

const LOADING_MILLISECONDS = 1000;

const place = (id) => document.getElementById(id);

function start() {
  watchSession(place("key"), place("sign-out"));
  const form = new RequestForm(place("request"), submit);
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
      info = await ask("GET", "api/info");
    } catch (problem) {
      place("model").textContent = problem.message;
      return;
    }
    const { model, engine, parameters, loras } = info;
    const loading = engine.backend === null;
    place("model").textContent = loading ? `${model.name} is being loaded…` : `${model.name} on ${engine.device}`;
    place("model").title = engine.note;
    if (loading) setTimeout(learn, LOADING_MILLISECONDS);
    const form_is = JSON.stringify([parameters, loras]);
    if (form_is === shown) return;
    shown = form_is;
    viewer.rules = parameters.properties;
    form.show(info);
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

  function use(request) {
    form.fill(request);
    form.focus();
  }
}

function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
}

start();
