// Makes elements. Text from outside becomes text or an attribute, never markup.

const SVG = "http://www.w3.org/2000/svg";

function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export function el(name, attributes = {}, ...children) {
  return make(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return make(document.createElementNS(SVG, name), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

/** Sets the text only if it differs: a screen reader reads out each change of a live region. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Replaces the children when `key`, which covers all that they show, has changed. */
export function render(node, key, children) {
  const shown = JSON.stringify(key);
  if (node.shown === shown) return;
  node.shown = shown;
  node.replaceChildren(...children());
}

/**
 * Keeps one child for each item, by item.id, in order. Children stay the same elements, so that the focus and open
 * details stay.
 */
export function renderEach(list, items, create, update) {
  const known = new Map([...list.children].map((child) => [child.dataset.id, child]));
  items.forEach((item, position) => {
    let child = known.get(item.id);
    known.delete(item.id);
    if (child === undefined) {
      child = create(item);
      child.dataset.id = item.id;
    }
    if (list.children[position] !== child) list.insertBefore(child, list.children[position] ?? null);
    update(child, item);
  });
  for (const gone of known.values()) gone.remove();
}
