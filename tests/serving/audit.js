// What a reader of the page needs, looked up in the browser's own computed styles. Each function returns what is wrong.

const audit = {
  /** Text whose contrast with what lies behind it is below 4.5:1 (large text: 3:1), as WCAG 2.2 measures it. */
  contrast() {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = new Map();
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const holder = node.parentElement;
      if (!node.data.trim() || !holder.checkVisibility() || holder.closest(".unseen, .skip, noscript, title, desc")) continue;
      const style = getComputedStyle(holder);
      const drawn = holder instanceof SVGElement;
      const behind = drawn ? this.behindDrawn(holder) : this.behind(holder);
      const ratio = this.ratio(this.over(this.colour(drawn ? style.fill : style.color), behind), behind);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) found.set(`${ratio.toFixed(2)} ${holder.tagName}.${holder.className?.baseVal ?? holder.className} ${node.data.trim().slice(0, 30)}`, 1);
    }
    return [...found.keys()];
  },

  /** Marks, bars and whiskers below 3:1 against the ground of their figure. */
  graphics() {
    const found = new Set();
    for (const shape of document.querySelectorAll("svg .mark, svg rect.fill, svg .whisker:not(.wide), svg .curve, .bars rect")) {
      const style = getComputedStyle(shape);
      const behind = this.behind(shape.ownerSVGElement);
      const filled = shape.matches(".mark:not(.hollow), rect");
      const ratio = this.ratio(this.colour(filled ? style.fill : style.stroke), behind);
      if (ratio < 3) found.add(`${ratio.toFixed(2)} ${shape.tagName}.${shape.className.baseVal}`);
    }
    return [...found];
  },

  /** Buttons, summaries and links that stand alone and are less than 44 px wide or high. */
  targets() {
    const alone = [...document.querySelectorAll("button, summary, label, a:not(.skip)")].filter((item) => !item.closest("p, dd"));
    const small = alone.filter((item) => item.checkVisibility() && Math.min(item.offsetWidth, item.offsetHeight) < 44);
    return small.map((item) => `${item.offsetWidth}×${item.offsetHeight} ${item.outerHTML.slice(0, 80)}`);
  },

  /** Elements that reach beyond the right edge although nothing scrolls them, where the page is wider than its view. */
  overflow() {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const wide = [...document.body.querySelectorAll("*")].filter((item) => !item.closest(".scroll, pre") && item.getBoundingClientRect().right > clientWidth);
    return [`${scrollWidth} > ${clientWidth}`, ...wide.map((item) => item.outerHTML.slice(0, 80))];
  },

  /** Elements that move or fade. */
  motion() {
    const moving = [...document.querySelectorAll("*")].filter((item) => {
      const style = getComputedStyle(item);
      return style.transitionDuration !== "0s" || style.animationName !== "none" || style.scrollBehavior === "smooth";
    });
    return [...moving.map((item) => item.tagName), ...document.getAnimations().map((item) => item.animationName)];
  },

  /** All that a keyboard must reach, in the document's order. */
  focusable() {
    const all = document.querySelectorAll("a[href], button, input, select, summary, [tabindex]");
    return [...all].filter((item) => item.checkVisibility()).map((item) => this.named(item));
  },

  /** The focused element, and whether one sees that it is; null at the start and end of the page. */
  focused() {
    const item = document.activeElement;
    if (item === document.body) return null;
    const shown = item.matches(".drop input") ? item.parentElement : item;
    const style = getComputedStyle(shown);
    return { name: this.named(item), seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
  },

  named: (item) => `${item.tagName} ${[...document.querySelectorAll("*")].indexOf(item)}`,

  /** [red, green, blue, alpha], 0 to 255 and 0 to 1, of a computed colour. */
  colour(text) {
    const numbers = text.match(/[\d.]+/g).map(Number);
    const unit = text.startsWith("color(srgb") ? 255 : 1;
    return [...numbers.slice(0, 3).map((value) => value * unit), numbers[3] ?? 1];
  },

  over([red, green, blue, alpha], behind) {
    return [red, green, blue].map((value, place) => alpha * value + (1 - alpha) * behind[place]);
  },

  /** The colour behind an element: its own background over those of what it lies in. */
  behind(item) {
    if (item === null) return [255, 255, 255];
    const own = this.colour(getComputedStyle(item).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : this.over(own, this.behind(item.parentElement));
  },

  /** The same for text of a figure, which may stand on a cell of a heat map. */
  behindDrawn(label) {
    const ground = this.behind(label.ownerSVGElement);
    const { x, y, width, height } = label.getBoundingClientRect();
    const inside = (box) => box.left < x + width / 2 && x + width / 2 < box.right && box.top < y + height / 2 && y + height / 2 < box.bottom;
    const cells = [...label.ownerSVGElement.querySelectorAll("rect.cell")].filter((item) => inside(item.getBoundingClientRect()));
    return cells.reduce((below, item) => {
      const style = getComputedStyle(item);
      const [red, green, blue] = this.colour(style.fill);
      return this.over([red, green, blue, Number(style.fillOpacity)], below);
    }, ground);
  },

  ratio(one, other) {
    const [low, high] = [this.luminance(one), this.luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  },

  luminance([red, green, blue]) {
    const linear = (level) => (level <= 0.04045 * 255 ? level / 255 / 12.92 : ((level / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  },
};
