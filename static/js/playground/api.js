// JSON calls to the hub. What goes wrong is an Error with the hub's own sentence.

export async function call(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("The hub is not responding. Is it still running?");
  }
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => null);
  if (!answer.ok)
    throw new Error(content?.error?.message ?? `The hub rejected the request (${answer.status}).`);
  return content;
}
