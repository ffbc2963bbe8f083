// The key of a server that takes keys. The server gives a cookie for it; the page keeps no key.

import { button, element } from "./elements.js";
import { browser } from "./memory.js";
import { ask } from "./server.js";

const SIGNED_IN = "calotype.signed-in";

// Asks for the key when the server does; `out` is the button that ends the session.
export function watchSession(dialog, out) {
  out.hidden = !browser.get(SIGNED_IN);
  out.onclick = async () => {
    await ask("DELETE", "api/session");
    browser.forget(SIGNED_IN);
    location.reload();
  };
  document.addEventListener("keyneeded", () => dialog.open || show(dialog));
}

function show(dialog) {
  const input = element("input", {
    id: "field-key",
    type: "password",
    autocomplete: "current-password",
    required: true,
  });
  const send = element("button", { type: "submit" }, "Sign in");
  const leave = button("Not now", () => dialog.close(), { className: "quiet" });
  const fault = element("p", { className: "fault", role: "alert", hidden: true });
  const form = element(
    "form",
    {},
    element("h2", { id: "key-title" }, "This server takes a key"),
    element("p", {}, "Whoever runs it makes one with ", element("code", {}, "calotype keys create"), "."),
    element("label", { htmlFor: input.id }, "Key"),
    input,
    fault,
    element("div", { className: "actions" }, send, leave),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await ask("POST", "api/session", { body: { key: input.value.trim() } });
      browser.set(SIGNED_IN, "yes");
      location.reload();
    } catch (problem) {
      fault.textContent = problem.message;
      fault.hidden = false;
      input.select();
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
}
