// One WebSocket for all columns: what is asked at once reaches the engine at once, and shares a batch.

import { check, heard } from "../connection.js";

const LOST = "The connection to the hub was lost. Send the message again.";
const takers = new Map(); // generation id → function that takes its events
let socket = null;
let opening = null;
let asked = 0;

/** Resolves when there is a connection; rejects with a sentence. */
export function connect() {
  if (socket?.readyState === WebSocket.OPEN) return Promise.resolve();
  opening ??= open().finally(() => (opening = null));
  return opening;
}

function open() {
  return new Promise((resolve, reject) => {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(`${scheme}//${location.host}/ws/inference`);
    socket.addEventListener("open", () => resolve());
    socket.addEventListener("message", (message) => {
      heard();
      const event = JSON.parse(message.data);
      takers.get(event.id)?.(event);
    });
    socket.addEventListener("close", () => {
      for (const take of [...takers.values()])
        take({ event: "error", error: { code: "unavailable", message: LOST } });
      takers.clear();
      check();
      reject(new Error("The hub is not responding. Is it still running?"));
    });
  });
}

/** Ask; `take` gets every event, of which "done", "stopped" and "error" are the last. */
export function generate(fields, take) {
  const id = `g${++asked}`;
  takers.set(id, (event) => {
    if (["done", "stopped", "error"].includes(event.event)) takers.delete(id);
    take(event);
  });
  socket.send(JSON.stringify({ type: "generate", id, ...fields }));
  return id;
}

export function stop(id) {
  if (takers.has(id)) socket.send(JSON.stringify({ type: "stop", id }));
}
