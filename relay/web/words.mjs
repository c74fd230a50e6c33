// What the relay says in words, for people who watch.

/** Without what the page says already, and without the guest's address on the host, which is for
 *  whoever runs the relay. */
export function tidy(text) {
  return (text ?? "")
    .replace(/^(no picture|waiting for the guest): /, "")
    .replace(/^(unix|vsock|hyperv):.*?, port \d+: /, "")
    .replace(/^[a-z](?![a-z]*:)/, (c) => c.toUpperCase());
}
