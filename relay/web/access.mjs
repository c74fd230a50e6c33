// The token of a link: out of the address bar at once, kept for this tab alone, sent with each
// request. Not a cookie: those go to every port of this host, and with requests that others make.

const KEY = "transom-token";

/** The token that this page was opened with, if any. */
export function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(KEY) ?? undefined;
}

/** A link opened in a tab that shows a guest already changes the fragment only. */
export function onNewToken(then) {
  addEventListener("hashchange", () => {
    if (location.hash.includes("token=")) {
      then();
    }
  });
}

/** fetch with the token; answers that are refusals become errors with the relay's words. */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const secret = token();
  if (secret) {
    headers.set("Authorization", `Bearer ${secret}`);
  }
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw Object.assign(new Error(body.error ?? response.statusText), { status: response.status });
  }
  return response;
}
