// What the gateway tells of one user as it happens (server-sent events). The browser connects anew by itself.

export function watch(userId, { interactions, features, missed }) {
  const source = new EventSource(`/v1/users/${encodeURIComponent(userId)}/events`);
  let known = null;
  source.addEventListener("hello", (event) => {
    const now = JSON.stringify(JSON.parse(event.data).features);
    if (known !== null && known !== now) missed(); // changed while the connection was broken
    known = now;
  });
  source.addEventListener("interactions", () => interactions());
  source.addEventListener("features", (event) => {
    const told = JSON.parse(event.data);
    known = JSON.stringify(told.features);
    features(told);
  });
  return source;
}
