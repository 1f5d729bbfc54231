/**
 * Elements that stand in the order of their names, whatever order they came in: each is always found in its place.
 */

const { compare } = new Intl.Collator("en", { numeric: true }); // v9 before v10

export class Ordered {
  /** @param {Element} container where they stand. */
  constructor(container) {
    this._container = container;
    this._items = [];
  }

  /** Put an element where its name belongs. */
  add(name, element) {
    const index = this._indexFor(name);
    this._container.insertBefore(element, this._items[index]?.element ?? null);
    this._items.splice(index, 0, { name, element });
  }

  /** Take an element away. */
  remove(element) {
    this._items.splice(this._items.findIndex((item) => item.element === element), 1);
    element.remove();
  }

  _indexFor(name) {
    let [low, high] = [0, this._items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this._items[middle].name, name) <= 0) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
}
