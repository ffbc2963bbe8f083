// Streams of events that outlive the server's restart.

const RETRY_MILLISECONDS = 2000;

// Follows a stream; returns the function that ends it. An EventSource tries again by itself while
// nothing answers, with the id of the last event; after an answer that is no stream, such as a
// proxy's 502, it gives up. Then `refused` is asked: true has it opened anew in a while.
export function follow(address, { told, lost = () => {}, found = () => {}, refused }) {
  let source;
  let timer;
  let ended = false;

  function open() {
    source = new EventSource(address);
    source.onopen = found;
    source.onmessage = ({ data }) => told(JSON.parse(data));
    source.onerror = async () => {
      lost();
      if (source.readyState !== EventSource.CLOSED) return;
      if ((await refused()) && !ended) timer = setTimeout(open, RETRY_MILLISECONDS);
    };
  }

  open();
  return () => {
    ended = true;
    clearTimeout(timer);
    source.close();
  };
}
