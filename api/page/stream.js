// Streams of events that outlive the server's restart, and rest while the page is hidden: a browser
// has six connections to a server, which all of its tabs share.

const RETRY_MILLISECONDS = 2000;

// Follows a stream; returns the function that ends it. An EventSource tries again by itself while
// nothing answers, with the id of the last event; after an answer that is no stream, such as a
// proxy's 502, it gives up. Then `refused` is asked: true has it opened anew in a while.
export function follow(address, { told, lost = () => {}, found = () => {}, refused }) {
  let source;
  let timer;
  let ended = false;

  function open() {
    rest();
    if (ended || document.hidden) return;
    source = new EventSource(address);
    source.onopen = found;
    source.onmessage = ({ data }) => told(JSON.parse(data));
    source.onerror = fail;
  }

  async function fail({ target }) {
    lost();
    if (target.readyState !== EventSource.CLOSED) return;
    const again = await refused();
    if (again && target === source) timer = setTimeout(open, RETRY_MILLISECONDS);
  }

  function rest() {
    clearTimeout(timer);
    source?.close();
  }

  document.addEventListener("visibilitychange", open);
  open();
  return () => {
    ended = true;
    document.removeEventListener("visibilitychange", open);
    rest();
  };
}
