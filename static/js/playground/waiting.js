// What a request that has no first token yet waits for.

import { call } from "./api.js";

let asking = null; // one question for all columns that wait

export function whatHolds() {
  asking ??= ask().finally(() => (asking = null));
  return asking;
}

async function ask() {
  try {
    const models = await call("GET", "/api/inference/models");
    const coming = models.find(({ state }) => state === "loading" || state === "verifying");
    if (!coming) return "Reading the prompt…";
    const done = coming.state === "loading" ? `, ${Math.round(100 * coming.share)} %` : "";
    return `${coming.state === "loading" ? "Loading" : "Checking"} ${coming.name}${done}…`;
  } catch {
    return "Waiting for the engine…";
  }
}
