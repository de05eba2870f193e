// Small helpers for the other modules.

/**
 * Calls `act(element, event)` for every event on an element that the selector finds, or inside one. The
 * document listens, so what htmx puts into the page later is heard as well.
 */
export function on(type, selector, act) {
  document.addEventListener(type, (event) => {
    const element = event.target.closest?.(selector);
    if (element) act(element, event);
  });
}

/** Has a screen reader say something. */
export function say(text) {
  const region = document.getElementById("live");
  if (region) region.textContent = text;
}

/** An element with these properties. */
export function make(name, properties) {
  return Object.assign(document.createElement(name), properties);
}
