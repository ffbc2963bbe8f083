// Requests to the server. Its errors are problems (RFC 9457), each fault with its field.

export class Problem extends Error {
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

// The server names its addresses from the root; below a proxy's prefix the page's own is the base.
export function here(address) {
  return address.replace(/^\//, "");
}

// The answer's JSON; null where it has none. Throws a Problem, of status 0 where nothing answers.
// A missing key is also told to the whole page, by the event "keyneeded".
export async function ask(method, address, { body, headers = {} } = {}) {
  const request = { method, headers: { ...headers } };
  if (body !== undefined) {
    request.body = JSON.stringify(body);
    request.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(here(address), request);
  } catch {
    throw new Problem(0, "The server does not answer.");
  }
  if (!answer.ok) throw await problemIn(answer);
  try {
    return answer.status === 204 ? null : await answer.json();
  } catch {
    // The connection broke within it, or it is the page of a proxy that asks to sign in.
    throw new Problem(0, "The server's answer could not be read. Try again.");
  }
}

async function problemIn(answer) {
  if (answer.status === 401) document.dispatchEvent(new Event("keyneeded"));
  try {
    const { detail, errors } = await answer.json();
    if (detail) return new Problem(answer.status, detail, errors ?? []);
  } catch {
    // No JSON: it is none of the server's own.
  }
  return new Problem(answer.status, `The server answered ${answer.status}.`);
}
